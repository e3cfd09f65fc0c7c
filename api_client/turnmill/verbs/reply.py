"""What a turn came to: its reply, or the error that says why there is none."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from os import PathLike
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from turnmill.domain.content import Audio, Part, text_of
from turnmill.domain.errors import (
    ContentGone,
    InvalidInput,
    NoReply,
    TurnCancelled,
    TurnDead,
    TurnExpired,
    TurnFailed,
)
from turnmill.domain.ids import TurnId
from turnmill.domain.states import TurnState
from turnmill.domain.voice import SPEAK, TRANSCRIBE
from turnmill.store.line.content import content_is_gone
from turnmill.store.nouns.outcome import Outcome, outcome_of
from turnmill.store.turn_records import AttemptRecord

if TYPE_CHECKING:
    from turnmill.domain.replying import Citation, FinishReason, Refusal

_ERRORS: Mapping[TurnState, type[NoReply]] = {
    TurnState.FAILED: TurnFailed,
    TurnState.DEAD: TurnDead,
    TurnState.CANCELLED: TurnCancelled,
    TurnState.EXPIRED: TurnExpired,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUsage:
    """Tokens of all attempts of the turn. Cached ones are contained in the input.

    None is unknown: the provider of an attempt did not say, or said what makes no sense.
    """

    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None

    @property
    def total_tokens(self) -> int | None:
        """Return input and output together; None where one of them is unknown."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens + self.output_tokens

    @property
    def cached_share(self) -> float | None:
        """Return how much of the input was read from the vendor's cache, from 0 to 1.

        None where that is unknown, or nothing was sent.
        """
        if self.cached_tokens is None or not self.input_tokens:
            return None
        return self.cached_tokens / self.input_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Where the time went."""

    queued: timedelta  #: accepted until the first attempt began
    provider: timedelta  #: spent in calls to the provider, all attempts
    total: timedelta  #: accepted until the reply stood


#: Writes a sound to the file at this path; on asyncio, when it is awaited.
Save = Callable[[Audio, str | PathLike[str]], Any]


@dataclass(frozen=True, slots=True)
class ReplyAudio:
    """A reply as it is heard."""

    part: Audio
    _save: Save | None = field(default=None, repr=False, compare=False)

    @property
    def id(self) -> str:
        """The id of the attachment: `client.attachments.open` reads it."""
        return self.part.id

    @property
    def media_type(self) -> str:
        """What it is, by its bytes."""
        return self.part.media_type

    @property
    def duration(self) -> timedelta | None:
        """How long it takes; None where nobody could tell."""
        return self.part.duration

    def save(self, path: str | PathLike[str]) -> Any:
        """Write it to a file, in the place of what is there; with AsyncClient, await it.

        Raises AttachmentNotFound where it is kept no longer, FilesUnavailable or OSError.
        """
        if self._save is None:
            raise InvalidInput("this reply was not read by a client", hint="turn.result()")
        return self._save(self.part, path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to a turn."""

    turn_id: TurnId
    parts: Sequence[Part]
    usage: TokenUsage
    cost_usd: Decimal | None  #: None: no known price; never 0 for an unknown one
    finish_reason: "FinishReason | str"  #: another word only of a provider of your own
    timing: Timing
    attempts: Sequence[AttemptRecord]
    answered_by: str  #: "provider/model", as it was asked for; "" for a scripted one
    #: the code for which the session's own provider was passed over; None: it has answered
    answered_because: str | None
    #: why it was asked with our own history, and not in its vendor's thread: `lost`, `locked` or
    #: `unavailable`; None where it was not
    own_history: str | None = None
    _save: Save | None = field(default=None, repr=False, compare=False)

    @property
    def audio(self) -> ReplyAudio | None:
        """Return what is to be heard of it; None where it was not spoken."""
        part = next((one for one in self.parts if isinstance(one, Audio)), None)
        return None if part is None else ReplyAudio(part, self._save)

    @property
    def text(self) -> str:
        """Return its words; what is no text is in `parts` alone."""
        return text_of(self.parts)

    @property
    def citations(self) -> "tuple[Citation, ...]":
        """Return the sources that it names, in order."""
        from turnmill.domain.replying import citations_in  # noqa: PLC0415  few ask

        return citations_in(self.parts)

    @property
    def reasoning(self) -> str:
        """Return what its vendor tells of the reasoning before it; "" where that is nothing."""
        from turnmill.domain.replying import reasoning_in  # noqa: PLC0415  few ask

        return reasoning_in(self.parts)

    @property
    def refusal(self) -> "Refusal | None":
        """Return why the model does not answer; None where it does."""
        from turnmill.domain.replying import FinishReason, refusal_in  # noqa: PLC0415  few ask

        return refusal_in(self.parts) if self.finish_reason == FinishReason.REFUSAL else None

    @property
    def service_tier(self) -> str | None:
        """Return the tier in which its vendor has served it; None where it did not say."""
        asked = [one for one in self.attempts if one.kind not in (TRANSCRIBE, SPEAK)]
        return asked[-1].service_tier if asked else None


def saved_by(save: Save, reply: Reply) -> Reply:
    """Return the reply with what writes its sounds to files; most have none."""
    spoken = any(isinstance(one, Audio) for one in reply.parts)
    return replace(reply, _save=save) if spoken else reply


def read_reply(conn: Connection, turn_id: TurnId) -> Reply | None:
    """Return the reply, or None while the turn is not final.

    Raises TurnFailed, TurnDead, TurnCancelled or TurnExpired for a turn that ended without one, and
    ContentGone where it was kept for its time, and is gone.
    """
    ended = outcome_of(conn, turn_id)
    if ended is None:
        return None
    if ended.state in _ERRORS:
        raise no_reply(turn_id, ended.state, ended.error_code)
    if not ended.parts and content_is_gone(conn, turn_id):
        raise ContentGone(f"what was said in turn {turn_id} is gone")
    return _reply(turn_id, ended)


def no_reply(turn_id: TurnId, state: TurnState, error_code: str | None) -> NoReply:
    """Return the error for a turn that ended without a reply, with what can be done about it."""
    from turnmill.domain.errors.remedies import REMEDIES  # noqa: PLC0415  few turns fail

    code = error_code or state.value
    text = f"turn {turn_id} {state}: {code}"
    hint = REMEDIES.get(code)  # None: as the kind of the error says
    return _ERRORS[state](text, turn_id=str(turn_id), error_code=code, hint=hint)


def _reply(turn_id: TurnId, turn: Outcome) -> Reply:
    from turnmill.domain.replying import finish_reason_of  # noqa: PLC0415  whoever sends has none

    ended = turn.finished_at or turn.created_at
    started = turn.attempts[0].started_at if turn.attempts else ended
    provider_ms = sum(attempt.provider_ms or 0 for attempt in turn.attempts)
    return Reply(
        turn_id=turn_id,
        parts=turn.parts or (),
        usage=TokenUsage(
            input_tokens=turn.input_tokens,
            output_tokens=turn.output_tokens,
            cached_tokens=turn.cached_tokens,
        ),
        cost_usd=turn.cost_usd,
        finish_reason=finish_reason_of(turn.finish_reason),
        timing=Timing(
            queued=max(started - turn.created_at, timedelta(0)),
            provider=timedelta(milliseconds=provider_ms),
            total=ended - turn.created_at,
        ),
        attempts=turn.attempts,
        own_history=turn.own_history,
        answered_by=turn.answered_by or "",
        answered_because=turn.answered_because,
    )
