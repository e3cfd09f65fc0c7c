"""What running turns needs; put together by `turnmill_worker.process.assembly`."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from turnmill.domain.content import Audio
from turnmill.domain.retry import RetryPolicy
from turnmill.domain.voice import OTHERWISE, VoiceTarget
from turnmill.store.records import Head
from turnmill_worker.layers.budget import Budgeting
from turnmill_worker.layers.call import Layer
from turnmill_worker.layers.chains import Chains, ThreadStore
from turnmill_worker.layers.compaction import Shortening
from turnmill_worker.layers.history import chosen
from turnmill_worker.layers.registered import Named
from turnmill_worker.layers.uploading import UploadLedger
from turnmill_worker.providers import boundary
from turnmill_worker.providers.port import Provider, Usage
from turnmill_worker.providers.voice_prices import VoicePrices
from turnmill_worker.providers.voices import Voices
from turnmill_worker.streams.carriers import Nobody
from turnmill_worker.streams.publishing import Carrier
from turnmill_worker.tools.offered import Tools
from turnmill_worker.turn import verdict
from turnmill_worker.turn.batched import Failing
from turnmill_worker.turn.beside import Beside
from turnmill_worker.turn.fallback import Window
from turnmill_worker.turn.gauge import Gauge
from turnmill_worker.turn.in_hand import InHand
from turnmill_worker.turn.ledger_port import Ledger
from turnmill_worker.turn.slots import Slots
from turnmill_worker.turn.spoken_files import SpokenFiles
from turnmill_worker.turn.step_ledger import StepLedger
from turnmill_worker.turn.steps import Steps
from turnmill_worker.turn.turn_files import TurnFiles
from turnmill_worker.turn.voice_ledger import VoiceLedger
from turnmill_worker.turn.written import Told


@dataclass(frozen=True, slots=True, kw_only=True)
class Deps:
    """What running turns needs; one of it in each process."""

    ledger: Ledger
    in_hand: InHand
    slots: Slots
    provider: Callable[[str], Provider]  #: by name; raises ProviderUnknown or KeyMissing
    announce: Callable[[Head], None]  #: tells a worker; never blocks, never raises
    announce_at: Callable[[Head, datetime], None]  #: the same at a later moment, best effort
    price: Callable[[str, str, Usage], Decimal | None]  #: provider, model, usage
    #: provider, model, tier: what such a price is by
    price_source: Callable[[str, str, str], str] = lambda *_: ""
    window: Window = lambda *_: None  #: how many tokens a provider's model takes in
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    layers: Sequence[Named] = ()  #: that the operator registered, outermost first
    carrier: Carrier = field(default_factory=Nobody)  #: of what is said to those who watch
    measure: Layer | None = None  #: outside of them, where calls are counted
    defaults: Layer | None = None  #: parameters that the operator's file gives to models
    tools: Tools = field(default_factory=Tools)  #: that the operator registered
    step_ledger: StepLedger | None = None  #: None: no turn takes more than one step
    threads: ThreadStore | None = None  #: None: no thread of a vendor's is lent, or adopted
    voice_ledger: VoiceLedger | None = None  #: None: nothing is heard or spoken
    voices: Mapping[str, Voices[Any, Any]] = field(default_factory=dict)  #: by kind: who speaks
    spoken: SpokenFiles | None = None  #: what is heard and spoken
    voice_prices: VoicePrices = field(default_factory=VoicePrices)
    told: Told | None = None  #: after each commit
    failing: Failing | None = None  #: is told too; None: no batch is stopped for its failures
    files: TurnFiles | None = None  #: that messages refer to; None: there are none
    uploads: UploadLedger | None = None  #: None: no vendor is to keep any of them
    gates: Sequence[Layer] = ()  #: right before each call
    beside: Beside = field(default_factory=Beside)  #: of other users than those who were hinted at
    accepting: Callable[[], bool] = lambda: True  #: whether a turn may still be claimed
    turn_timeout: timedelta = timedelta(minutes=10)
    max_reply_bytes: int = boundary.MAX_REPLY_BYTES
    background_timeout: timedelta = verdict.BACKGROUND_TIMEOUT
    jitter: Callable[[], float] = random.random
    gauge: Gauge = field(default_factory=Gauge, repr=False)  #: for calls that nobody counts
    chains: Chains = field(init=False, repr=False)  #: all around the providers
    steps: Steps = field(init=False, repr=False)  #: of turns whose models call tools
    _voices: dict[str, "Deps"] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        chains = Chains(
            find=self.provider,
            read_history=chosen(self.ledger.history, self.ledger.history_after),
            shortening=Shortening(
                spoken=self.ledger.spoken,
                keep=self.ledger.keep_compaction,
                price=self.price,
                source=self.price_source,
            ),
            mark_sent=self.ledger.mark_sent,
            mark_target=self.ledger.mark_target,
            paused=self.ledger.paused,
            turn_timeout=self.turn_timeout,
            max_reply_bytes=self.max_reply_bytes,
            theirs=self.layers,
            measure=self.measure,
            threads=self.threads,
            files=self.files,
            uploads=self.uploads,
            gates=self.gates,
            defaults=self.defaults,
            budgeting=Budgeting(
                find=self.provider,
                price=self.price,
                reserve=self.ledger.reserve,
                read_thread=self.ledger.history,
            ),
        )
        object.__setattr__(self, "chains", chains)
        steps = Steps(
            ledger=self.step_ledger,
            tools=self.tools,
            accepting=self.accepting,
            voice=self.voice_ledger,
        )
        object.__setattr__(self, "steps", steps)

    async def aclose(self) -> None:
        """Close the connections of tools and voices, and finish what verdicts were noted for."""
        if self.failing is not None:
            await asyncio.to_thread(self.failing.stop)
        await self.tools.aclose()
        for voices in self.voices.values():
            await voices.aclose()

    def voice(self, kind: str) -> "Deps":
        """Return what somebody is asked with who hears, or speaks: through the same gates."""
        found = self._voices.get(kind)
        if found is None:
            found = self._voices[kind] = replace(
                self,
                provider=self.voices[kind].get,
                price=self.voice_prices.price,
                price_source=self.voice_prices.source,
                layers=(),
                defaults=None,
                tools=Tools(),
                threads=None,
                carrier=Nobody(),
                gauge=Gauge(),  # what is known of a session's model is another matter
            )
        return found

    async def timed(self, part: Audio) -> Audio:
        """Return a sound with its length, where that can be told. Raises ProviderError."""
        return part if self.spoken is None else await self.spoken.timed(part)

    def whom(self, kind: str, wanted: VoiceTarget, own: str) -> VoiceTarget:
        """Return who is asked to hear, or to speak, and for which model. Raises ProviderError.

        Where nobody is wanted it is the session's own provider, should he be one of the kind.
        """
        voices = self.voices[kind]
        provider = wanted.provider or (own if own in voices.names else OTHERWISE)
        return VoiceTarget(provider, wanted.model or voices.get(provider).model)
