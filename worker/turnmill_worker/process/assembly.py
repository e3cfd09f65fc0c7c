"""The assembly: the one place where what running turns needs is put together.

A worker, a child in quarantine and the runner inside an application differ in what they announce
and whom; what stands around a provider's call, and how long it may take, is the same for all.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from turnmill.domain.voice import SPEAK, TRANSCRIBE
from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill.store.records import Head
from turnmill_worker.layers.call import Layer
from turnmill_worker.layers.defaults import defaults_in
from turnmill_worker.layers.measure import measure
from turnmill_worker.layers.registered import registered
from turnmill_worker.process.measuring import Measuring
from turnmill_worker.providers.own_prices import Prices, prices_in
from turnmill_worker.providers.port import Provider
from turnmill_worker.providers.pricing import window
from turnmill_worker.providers.voice_prices import VoicePrices
from turnmill_worker.providers.voices import speakers, transcribers
from turnmill_worker.streams.publishing import Carrier
from turnmill_worker.tools.known import tools_of
from turnmill_worker.turn.batched import Failing
from turnmill_worker.turn.deps import Deps
from turnmill_worker.turn.in_hand import InHand
from turnmill_worker.turn.ledger import GroupedLedger
from turnmill_worker.turn.slots import Slots
from turnmill_worker.turn.spoken_files import SpokenFiles
from turnmill_worker.turn.turn_files import TurnFiles


def assemble(
    settings: Settings,
    *,
    database: Database,
    ledger: GroupedLedger,
    in_hand: InHand,
    slots: Slots,
    provider: Callable[[str], Provider],
    announce: Callable[[Head], None],
    announce_at: Callable[[Head, datetime], None],
    accepting: Callable[[], bool] = lambda: True,
    carrier: Carrier,
    measuring: Measuring | None = None,
    gates: Sequence[Layer] = (),
) -> Deps:
    """Return what a process runs turns with.

    Raises ConfigurationError for layers, tools, prices or defaults that are not there.
    """
    prices = prices_in(settings.prices, Prices())
    files = TurnFiles(database, settings)
    spoken = SpokenFiles(files)
    return Deps(
        ledger=ledger,
        step_ledger=ledger.steps,
        threads=ledger.threads,
        files=files,
        uploads=ledger.uploads,
        voice_ledger=ledger.voice,
        voices={TRANSCRIBE: transcribers(), SPEAK: speakers(spoken)},
        spoken=spoken,
        voice_prices=VoicePrices(prices),
        in_hand=in_hand,
        slots=slots,
        provider=provider,
        announce=announce,
        announce_at=announce_at,
        price=prices.price,
        price_source=prices.source,
        window=window,
        accepting=accepting,
        carrier=carrier,
        layers=registered(settings.layers),
        defaults=defaults_in(settings.defaults),
        tools=tools_of(settings),
        measure=None if measuring is None else measure(measuring.called),
        told=None if measuring is None else measuring.written,
        failing=Failing(database),
        gates=gates,
        turn_timeout=settings.turn_timeout,
        max_reply_bytes=settings.max_reply_bytes,
        background_timeout=settings.background_timeout,
    )
