"""What store functions take and give: plain frozen records, no rows, no ORM."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from math import inf
from typing import Any, Literal, NamedTuple, Self

from turnmill.domain.content import Message, text_of_all
from turnmill.domain.ids import BatchId, SessionId, TurnId
from turnmill.domain.states import (
    Lane,
    OnAmbiguous,
    OnFailure,
    SessionStatus,
    TurnState,
)
from turnmill.store.codec import StoredHistory


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """A session to be created."""

    id: SessionId
    user_id: str = field(repr=False)
    provider: str
    model: str
    key: str | None = None
    system_prompt: str | None = field(default=None, repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)
    on_failure: OnFailure = OnFailure.CONTINUE
    on_ambiguous: OnAmbiguous = OnAmbiguous.RECONCILE
    max_attempts: int = 5
    idle_ttl: timedelta | None = None
    keep_content: timedelta | None = None
    adopted: str | None = None  #: a vendor's thread that exists, and is gone on with
    key_id: str | None = None  #: the caller's own key that its content is encrypted by


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """A session as it stands."""

    id: SessionId
    key: str | None
    user_id: str = field(repr=False)
    provider: str
    model: str
    status: SessionStatus
    system_prompt: str | None = field(repr=False)
    settings: Mapping[str, Any] = field(repr=False)
    metadata: Mapping[str, Any] = field(repr=False)
    on_failure: OnFailure
    on_ambiguous: OnAmbiguous
    max_attempts: int
    idle_ttl: timedelta | None
    unfinished: int  #: turns that are not final
    head_turn_id: TurnId | None  #: the first of them: the others wait for it
    turns_succeeded: int
    turns_failed: int  #: failed or dead
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal  #: of all priced attempts
    unpriced_attempts: int  #: attempts whose model has no known price
    provider_ref: str
    created_at: datetime
    last_active_at: datetime
    archived_at: datetime | None
    adopted: str | None = None  #: the vendor's thread that it goes on with
    template: str | None = None  #: that it was made from; what that says later changes nothing here
    template_version: int | None = None
    version: int = 1  #: one more with each update of its options
    key_id: str | None = None  #: the caller's own key that its content is encrypted by
    keep_content: timedelta | None = None  #: what was said is kept for so long; None: as its user's
    content_gone_until: datetime | None = None  #: of turns that ended by then no content is left
    forked_from: SessionId | None = None  #: whose history it began with


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTurn:
    """A turn to be accepted."""

    id: TurnId
    messages: Sequence[Message]  #: what is said in it
    lane: Lane = Lane.INTERACTIVE
    idempotency_key: str | None = None
    deliver_at: datetime | None = None
    expires_at: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)
    max_attempts: int | None = None
    batch_id: BatchId | None = None
    batch_line: int | None = None
    custom_id: str | None = None
    retry_of: TurnId | None = None
    stream: bool = False  #: its reply may be watched while it comes
    max_cost_usd: Decimal | None = None  #: of all its attempts
    reply_as: str | None = None  #: text or audio; None: as its session's settings say

    @property
    def text(self) -> str:
        """Return the words of all its messages."""
        return text_of_all(self.messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What became of a message: it stands in the store."""

    turn_id: TurnId
    session_id: SessionId
    created: bool  #: False: the idempotency key already stood for this turn
    announce: bool  #: it is the head of its line and due: tell a worker


class Written(NamedTuple):
    """What an engine made of a message; neither created nor known: the session takes none."""

    created: bool
    announce: bool
    known_id: Any  #: of the turn that the key stands for
    known_hash: Any  #: of its content


#: A message and the session that it is for.
Item = tuple[SessionId, NewTurn]
#: A session that does not exist yet, and its first message.
Start = tuple[NewSession, NewTurn]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The first unfinished turn of a session, which may run."""

    turn_id: TurnId
    session_id: SessionId
    lane: Lane  #: quarantine for a turn whose worker was lost


class Waits(NamedTuple):
    """How long hints are given before another one is published."""

    grace: timedelta  #: who makes a head due publishes it: time for that hint to be used
    quiet: timedelta  #: time for a hint of a dispatcher's to be used


class Lost(NamedTuple):
    """A turn that died with its worker, as often as one may."""

    turn_id: TurnId
    session_id: SessionId
    lost: int  #: how often its worker was lost
    provider: str
    model: str
    error_code: str


class Moved(NamedTuple):
    """What became of turns whose time was up."""

    turns: int
    heads: list[Head]  #: due now, of their lines; fewer than turns where nobody stands behind them
    dead: Sequence[Lost] = ()


#: What a turn is claimed for: to be sent, or to be asked about: what has become of the call, or how
#: far work in the background is.
ClaimKind = Literal["send", "check", "resume"]


@dataclass(frozen=True, slots=True)
class Own:
    """What a session itself asks, whoever is asked instead."""

    provider: str
    model: str
    settings: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to run a turn once, and all that the call needs."""

    turn_id: TurnId
    session_id: SessionId
    fence: int
    kind: ClaimKind
    n: int  #: how many claims of this turn there were, this one included
    attempt: int  #: attempts spent, this one included
    max_attempts: int
    lane: Lane
    provider: str
    model: str
    system_prompt: str | None = field(repr=False)
    settings: Mapping[str, Any] = field(repr=False)
    provider_ref: str
    native_ref: str
    on_ambiguous: OnAmbiguous
    metadata: Mapping[str, Any] = field(repr=False)
    messages: Sequence[Message]  #: what is said in this turn
    next_position: int  #: of a message that follows them
    #: of succeeded turns, oldest first; empty where provider_ref stands; None where it is long,
    #: and to be read apart
    history: StoredHistory | None
    #: of a question, on the database's clock: since the call, and until the turn expires
    waited: timedelta = timedelta(0)
    expires_in: timedelta | None = None
    user_id: str = field(default="", repr=False)  #: whose session it is
    batch_id: BatchId | None = None  #: that the turn belongs to
    stream: bool = False  #: readers may watch the reply come
    step: int = 1  #: the model call that comes now; what those before it brought is in `messages`
    step_ref: str = ""  #: the vendor's thread as the step before left it
    estimated: bool = False  #: of a question: the call that it is about was booked as an estimate
    error_code: str | None = None  #: of the attempt before, where the turn is tried again
    waits_for: str | None = None  #: what it was put off for, where it was
    adopted: str | None = None  #: the vendor's thread that the session goes on with
    #: what had been said in it before it was adopted, in the first turn after that
    before: Sequence[Message] = field(default=(), repr=False)
    target: int = 0  #: which of the session's targets is asked; 0: its own provider and model
    benched: int = 0  #: bits of the targets that have failed in this round
    given_up: int = 0  #: bits of those that are not asked any more in this turn
    because: str | None = None  #: the code for which the session's own was passed over
    asked_of: tuple[str, str] | None = None  #: of a question: who was asked to execute it
    #: what the session itself asks, where `provider`, `model` and `settings` are another target's
    own: Own | None = field(default=None, repr=False)
    budgeted: bool = False  #: a budget may bound what it costs
    reply_as: str | None = None  #: text or audio, where that was said of the turn
    lease_ends: float = inf  #: on a clock of the process that claimed; the store leaves it open

    def held_until(self, ends: float) -> Self:
        """Write down when the lease ends, before anybody else has seen the claim.

        A copy of all the rest for one number would be the dearest step of a claim.
        """
        object.__setattr__(self, "lease_ends", ends)
        return self

    @property
    def text(self) -> str:
        """Return the words of all its messages."""
        return text_of_all(self.messages)


class Taken(NamedTuple):
    """A turn that is ours now, and what is still to be read of it."""

    turn_id: TurnId
    session_id: SessionId
    fence: int
    read: Callable[[], Claim]  #: raises one of `readable.ODD` where a row holds what nobody expects


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Something that a vendor keeps of a turn, under an id of its own."""

    ref: str
    provider: str
    stored: bool  #: to be deleted when nobody needs it any more
    running: bool  #: the vendor may still be at work
    wanted: bool  #: somebody may come back to it; a cancelled turn never does


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """The verdict over one attempt."""

    turn_id: TurnId
    session_id: SessionId
    fence: int
    state: TurnState
    outcome: str  #: what the attempt row says
    gives_attempt_back: bool = False
    delay: timedelta = timedelta(0)  #: until the turn is due again, when it is not final
    replies: Sequence[Message] = ()  #: what the provider has said
    position: int = 1  #: of the first of them within the turn
    #: what had come of a streamed reply: kept where its turn is cancelled, and somebody wants it
    partial: str = field(default="", repr=False)
    finish_reason: str | None = None
    provider_ref: str | None = None  #: None leaves the session's as it is
    native_ref: str = ""
    request_id: str = ""
    model: str = ""
    error_code: str | None = None
    error_detail: str | None = field(default=None, repr=False)
    input_tokens: int | None = 0  #: None: tokens were used, nobody knows how many
    output_tokens: int | None = 0
    cached_tokens: int | None = 0
    cache_write_tokens: int | None = 0
    cache_write_1h_tokens: int | None = 0
    #: of each call, what the vendor said was used: its figures, as a JSON list
    usage: str | None = field(default=None, repr=False)
    service_tier: str | None = None
    cost_usd: Decimal | None = None
    priced: bool = True  #: False: tokens were used, their price is not known
    priced_by: str | None = None  #: the list that the cost is by
    provider_ms: int | None = None
    first_token_ms: int | None = None  #: of a reply that was streamed
    estimated: bool = False  #: the tokens are our estimate, of a call that was cut
    #: the tokens of the call that this one asked about are known now: our estimate of them goes
    counts_again: bool = False
    kept: Sequence[Kept] = ()  #: what the vendor holds by now
    waits_for: str | None = None  #: what it was put off for, or its step waits: it was no attempt
    has_calls: bool = False  #: the turn has called tools, or may have: it has receipts
    own_history: str | None = None  #: why it was asked without its vendor's thread
    target: int | None = None  #: that the turn goes on with; None: as before, as for the next three
    benched: int | None = None
    given_up: int | None = None
    answered_because: str | None = None
    answered_by: str | None = None  #: where that is not the session's own
    budgeted: bool = False  #: something is reserved for the call, or was charged for it
    unsettled: bool = False  #: nobody knows what the call has cost: what is reserved stands for it
    reconciles: bool = False  #: what the call that it asked about has cost is known by now
    batched: bool = False  #: its turn is, or may be, a batch's
    bulk: bool = False  #: it was claimed in the bulk lane: nobody waits for it

    @property
    def text(self) -> str | None:
        """Return the words of the reply; None where there is none."""
        return text_of_all(self.replies) if self.replies else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What the store made of a settlement."""

    turn_id: TurnId
    state: TurnState  #: cancelled where somebody had asked for it
    due_at: datetime | None  #: when the turn comes again; None when it is final
    next: Head | None  #: a head that is due now: announce it at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Fenced:
    """The settlement came from an owner that no longer holds the turn; nothing was changed."""

    turn_id: TurnId


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """Another transaction holds the session; nothing was changed: try again."""

    turn_id: TurnId
