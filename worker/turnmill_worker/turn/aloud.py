"""Steps of a turn that is spoken: sounds become words before its model is asked, and its reply one.

Each is a call of its own, with an attempt of its own, committed as it comes: whoever claims the
turn goes on where its rows end. What has no words yet is to be heard; a reply that stands without
a sound, though one is wanted, is to be spoken.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from turnmill.domain.content import Audio, Message, Part, Text, text_of_all
from turnmill.domain.errors import ProviderError
from turnmill.domain.ids import as_uuid
from turnmill.domain.states import TurnState
from turnmill.domain.voice import (
    SPEAK,
    TRANSCRIBE,
    VoiceTarget,
    is_answered_aloud,
    is_heard_as_it_is,
    named,
    untold,
)
from turnmill.store.codec import StoredHistory
from turnmill.store.line.stepping import CALLED
from turnmill.store.records import Claim, Fenced, Settled, Settlement
from turnmill.store.step_records import Advanced, Step, Voiced
from turnmill_worker.layers.holding import Holding, Stop
from turnmill_worker.providers.boundary import Fault
from turnmill_worker.providers.port import Done, Unknowable
from turnmill_worker.turn.voice_ledger import VoiceLedger

#: The code of a turn in whose sounds there was not a word, and none beside them.
NOTHING_HEARD = "nothing_heard"
_SETTINGS = ("audio_format", "mock", "timeout", "voice", "voice_language")

#: Writes a step, and returns what is to be written where the turn cannot go on.
Advance = Callable[[Step, Holding], Awaitable[Advanced | Settlement]]
#: A verdict, and what the store made of it.
Ended = tuple[Settlement, Settled | Fenced]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How a turn that is spoken is asked, judged and ended."""

    #: of what kind, and whom: the claim names provider and model
    ask: Callable[[str, Claim], Awaitable[Settlement]]
    #: who of a kind is asked, and for which model: whom the session names, if anybody, and its own
    whom: Callable[[str, VoiceTarget, str], VoiceTarget]
    timed: Callable[[Audio], Awaitable[Audio]]  #: with how long it takes, where that can be told
    judge: Callable[[Stop | ProviderError | Unknowable | Done], Settlement]
    told: Callable[[Claim, Settlement], None]
    end: Callable[[Settlement], Awaitable[Settled | Fenced]]


def is_spoken(claim: Claim) -> bool:
    """Tell whether the turn is heard, or is to be answered aloud."""
    if is_answered_aloud(claim.reply_as, claim.settings):
        return True
    return any(
        type(part) is Audio for message in claim.messages for part in message.parts
    ) and _is_to_be_heard(claim)


def is_to_be_spoken(claim: Claim) -> bool:
    """Tell whether the model has answered, and that is to be heard."""
    last = claim.messages[-1]
    return (
        claim.step > 1
        and last.role == "assistant"
        and bool(last.text.strip())
        and is_answered_aloud(claim.reply_as, claim.settings)
    )


def towards_speech(claim: Claim, settlement: Settlement) -> Step | Settlement:
    """Return a reply as a step, if it is to be spoken then; else as it is."""
    words = (settlement.text or "").strip()
    is_wanted = settlement.state is TurnState.SUCCEEDED and words
    if not is_wanted or not is_answered_aloud(claim.reply_as, claim.settings):
        return settlement
    voiced = Voiced(
        finish_reason=settlement.finish_reason or "stop", answered_by=settlement.answered_by
    )
    return Step(
        settlement=replace(settlement, state=TurnState.RUNNING, outcome=CALLED),
        calls=(),
        voiced=voiced,
    )


class Aloud:
    """Hears and speaks, in one process."""

    def __init__(self, ledger: VoiceLedger | None) -> None:
        self._ledger = ledger

    async def heard(self, holding: Holding, asking: Asking, advance: Advance) -> Settlement | None:
        """Put all that is to be heard into words; None where the model can be asked."""
        while _is_to_be_heard(holding.claim):
            ended = await self._hear(holding, asking, advance)
            if ended is not None:
                return ended
        return None

    async def spoken(self, holding: Holding, asking: Asking) -> Settlement | Ended:
        """Have the reply spoken, and end the turn with it."""
        claim, last = holding.claim, holding.claim.messages[-1]
        if self._ledger is None:
            return asking.judge(Fault("provider_unknown"))
        kept = await self._ledger.kept_speech(claim)
        if kept is not None:  # what it has cost died with the worker that had it spoken
            came = asking.judge(Done(parts=(kept,)))
        else:
            came, _ = await self._asked(SPEAK, Message.of("user", last.text), holding, asking)
        if came.state is not TurnState.SUCCEEDED:
            return came
        known = await self._ledger.answered(claim.turn_id)
        ended = replace(
            came,
            replies=(Message(last.role, (*last.parts, *_sounds_in(came))),),
            position=claim.next_position - 1,
            provider_ref="" if claim.target else claim.step_ref,
            finish_reason=known.finish_reason or "stop",
            answered_by=known.answered_by,
        )
        return ended, await asking.end(ended)

    async def _hear(self, holding: Holding, asking: Asking, advance: Advance) -> Settlement | None:
        place = untold(holding.claim.messages)
        assert place is not None  # or there is nothing to be heard
        n, at = place
        message = holding.claim.messages[n]
        alone = Message("user", (message.parts[at],))
        came, asked = await self._asked(TRANSCRIBE, alone, holding, asking)
        if came.state is not TurnState.SUCCEEDED:
            return came
        sound = asked.messages[0].parts[0]
        assert isinstance(sound, Audio)
        kept = sound if _keeps(holding.claim) else None
        said = _told(message, at, came.text or "", sound=kept)
        messages = (*holding.claim.messages[:n], said, *holding.claim.messages[n + 1 :])
        if untold(messages) is None and not text_of_all(messages).strip():
            return replace(
                came,
                state=TurnState.FAILED,
                outcome=TurnState.FAILED.value,
                error_code=NOTHING_HEARD,
                replies=(),
            )
        voiced = Voiced(
            said=(n, said),
            drops=_dropped(sound, messages),
            asks=(holding.claim.provider, holding.claim.model),
        )
        step = Step(settlement=_as_step(came), calls=(), voiced=voiced)
        advanced = await advance(step, holding)
        if isinstance(advanced, Settlement):
            return advanced
        asking.told(asked, step.settlement)
        holding.claim = replace(holding.claim, messages=messages)
        return None

    async def _asked(
        self, kind: str, message: Message, holding: Holding, asking: Asking
    ) -> tuple[Settlement, Claim]:
        """Have somebody hear or speak; the verdict over it, and the claim as he was asked."""
        claim = holding.claim
        if claim.kind != "send":
            # Whoever was asked before us tells nobody what became of it: he is asked again, in an
            # attempt of its own.
            return asking.judge(Unknowable()), claim
        if self._ledger is None:
            return asking.judge(Fault("provider_unknown")), claim
        try:
            found = asking.whom(kind, _named(kind, claim), _own(claim))
        except ProviderError as error:
            return asking.judge(error), claim
        if not await self._ledger.begin(
            claim, kind=kind, provider=found.provider, model=found.model
        ):
            return asking.judge(Stop.LEASE_LOST), claim
        try:
            own = _claim_of(claim, found, await _timed(message, asking))
        except ProviderError as error:
            return asking.judge(error), claim
        return await asking.ask(kind, own), own


def _as_step(came: Settlement) -> Settlement:
    """Return what was heard as a step of the turn: its words stand with the message."""
    return replace(
        came,
        state=TurnState.RUNNING,
        outcome=CALLED,
        replies=(),
        provider_ref=None,
        finish_reason=None,
    )


def _claim_of(claim: Claim, found: VoiceTarget, message: Message) -> Claim:
    """Return the claim as whoever hears or speaks is asked: with this message, and nothing else."""
    return replace(
        claim,
        provider=found.provider,
        model=found.model,
        system_prompt=None,
        settings={name: claim.settings[name] for name in _SETTINGS if name in claim.settings},
        messages=(message,),
        history=StoredHistory(),
        provider_ref="",
        step_ref="",
        stream=False,
        batch_id=None,
        adopted=None,
        before=(),
        target=0,
        own=None,
        error_code=None,
    )


async def _timed(message: Message, asking: Asking) -> Message:
    """Return the message with how long its sounds take: it decides what may be paid for them."""
    parts = [
        await asking.timed(part) if isinstance(part, Audio) else part for part in message.parts
    ]
    return Message(message.role, parts)


def _is_to_be_heard(claim: Claim) -> bool:
    return not is_heard_as_it_is(claim.settings) and untold(claim.messages) is not None


def _named(kind: str, claim: Claim) -> VoiceTarget:
    setting = "transcribe" if kind == TRANSCRIBE else "audio_model"
    return named(claim.settings.get(setting))


def _own(claim: Claim) -> str:
    return claim.provider if claim.own is None else claim.own.provider


def _keeps(claim: Claim) -> bool:
    return claim.settings.get("keep_audio") is not False


def _told(message: Message, at: int, words: str, *, sound: Audio | None) -> Message:
    """Return the message with words behind the sound, or in its place."""
    before, behind = message.parts[:at], message.parts[at + 1 :]
    if any(isinstance(one, Text) for one in before):
        words = f"\n{words}"  # texts are joined as they stand
    if any(isinstance(one, Text) for one in behind):
        words = f"{words}\n"
    kept = () if sound is None else (replace(sound, is_told=True),)
    return Message(message.role, (*before, *kept, Text(words), *behind))


def _dropped(sound: Audio, messages: Sequence[Message]) -> UUID | None:
    """Return the attachment of a sound that the turn holds no longer."""
    parts = (part for one in messages for part in one.parts if isinstance(part, Audio))
    return None if any(part.id == sound.id for part in parts) else as_uuid(sound.id)


def _sounds_in(settlement: Settlement) -> list[Part]:
    return [
        part for message in settlement.replies for part in message.parts if isinstance(part, Audio)
    ]
