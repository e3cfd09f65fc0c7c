"""What passes between a worker and the store while a turn takes its steps."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from turnmill.domain.content import Message
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import Effects, ToolCallState
from turnmill.store.records import Settlement


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCall:
    """A call of a tool that a model has made, as its receipt begins."""

    call_id: str  #: the vendor's name of it
    tool: str
    effects: Effects
    state: ToolCallState  #: pending, approval or caller
    expires_in: timedelta | None = None  #: so long somebody outside has time

    @property
    def approval(self) -> bool:
        """Tell whether somebody has to agree before it is run."""
        return self.state is ToolCallState.APPROVAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Voiced:
    """What a step of a turn that is spoken changes besides."""

    said: tuple[int, Message] | None = None  #: what stands at this position from now on
    drops: UUID | None = None  #: an attachment that this message held, and no longer does
    asks: tuple[str, str] | None = None  #: the provider and the model that are asked next
    finish_reason: str | None = None  #: of the reply that is to be spoken
    answered_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A model call whose reply does not end its turn: it goes on under the next fence."""

    #: what the call came to; `replies` is the message that makes the calls, or one and what the
    #: model is told of it; `provider_ref` is the thread as it left it
    settlement: Settlement
    calls: Sequence[NewCall]  #: in the order in which the message makes them
    voiced: Voiced | None = None  #: it is one of a turn that is spoken

    @property
    def first_output(self) -> int:
        """Return the position of the first call's output; the others follow."""
        return self.settlement.position + len(self.settlement.replies)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advanced:
    """The step stands in the store, and the turn is ours for the next one."""

    turn_id: TurnId
    fence: int
    step: int
    attempt: int
    n: int  #: how many claims of the turn there were, this one included


@dataclass(frozen=True, slots=True, kw_only=True)
class ToBegin:
    """A call that is about to be run."""

    turn_id: TurnId
    fence: int  #: of the turn's claim
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnd:
    """What has become of a call, and what the model is told of it."""

    turn_id: TurnId
    fence: int  #: of the turn's claim
    position: int
    state: ToolCallState  #: done, failed, unknown or expired
    error_code: str | None = None
    message: Message = field(repr=False)  #: of the role tool: its one output


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The receipt of a call: what a model wanted done, and what became of it."""

    turn_id: TurnId
    session_id: SessionId
    position: int  #: of its output among the turn's messages
    step: int  #: whose reply made the call
    call_id: str  #: the vendor's name of it
    tool: str
    effects: Effects
    #: of a turn that has ended, `running` is told as `unknown`: nobody will hear of it
    state: ToolCallState
    approval: bool  #: somebody has to agree before it is run
    runs: int  #: how often it was begun
    fence: int | None  #: under which it was last begun
    error_code: str | None
    created_at: datetime
    started_at: datetime | None  #: when it was last begun: from here on it may have had its effect
    ended_at: datetime | None
    expires_at: datetime | None
    overdue: bool  #: nobody waits any longer, by the database's clock
    made_in: UUID | None = field(
        default=None, repr=False
    )  #: another turn, which was retried as this

    @property
    def idempotency_key(self) -> str:
        """Return what is the same for every run of this call, in whatever process or turn."""
        return f"{self.made_in or self.turn_id}:{self.position}"
