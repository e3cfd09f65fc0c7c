"""Turns and their attempts as they stand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from turnmill.domain.ids import BatchId, SessionId, TurnId
from turnmill.domain.states import FINAL, Lane, TurnState


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One try of a turn."""

    n: int
    fence: int
    kind: str  #: send, check (what became of it?), resume, transcribe, speak or batch
    worker: str
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None  #: state that followed, or lost, released, absent
    error_code: str | None
    error_detail: str | None = field(repr=False)  #: the provider's words; may quote the user
    provider_request_id: str | None
    provider: str | None  #: that was asked; None in rows of before: the session's own
    model: str | None  #: that answered, or else was asked for
    input_tokens: int | None  #: None: the provider did not say
    output_tokens: int | None
    cached_tokens: int | None
    cache_write_tokens: int | None
    cost_usd: Decimal | None  #: None: no known price
    provider_ms: int | None
    polls: int = 0  #: how often the provider was asked what has become of it
    step: int = 1  #: which model call of its turn it was a try of
    first_token_ms: int | None = None  #: from its begin; None: it was not streamed
    estimated: bool = False  #: its tokens are our estimate: it was cut, and nobody counted
    cache_write_1h_tokens: int | None = None  #: of those written, the ones kept for an hour
    service_tier: str | None = None  #: in which it was served; None: the provider did not say
    priced_by: str | None = None  #: the list that the cost is by, and its name of the model
    #: of each of its calls, mostly one, what the vendor said was used: its figures, as they came
    usage: Sequence[Mapping[str, Any]] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRecord:
    """A turn as it stands."""

    id: TurnId
    session_id: SessionId
    seq: int
    state: TurnState
    lane: Lane
    attempt: int  #: attempts spent of `max_attempts`
    max_attempts: int
    lost: int  #: how often its worker was lost
    available_at: datetime
    expires_at: datetime | None
    lease_owner: str | None
    lease_until: datetime | None
    cancel_requested: bool
    idempotency_key: str | None
    batch_id: BatchId | None
    custom_id: str | None
    retry_of: TurnId | None
    metadata: Mapping[str, Any] = field(repr=False)
    error_code: str | None
    waits_for: str | None  #: what it was put off for, when it was last given back
    finish_reason: str | None
    input_tokens: int | None  #: of all attempts; None where one of them is unknown
    output_tokens: int | None
    cached_tokens: int | None
    cost_usd: Decimal | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    stream: bool = False  #: its reply may be watched while it comes
    step: int = 1  #: the model call that it stands at
    answered_by: str | None = None  #: "provider/model"; None: it has no reply, or was scripted
    #: the code for which the session's own was passed over; None: it has answered, or was not yet
    answered_because: str | None = None
    #: why it was asked with our own history, and not in its vendor's thread: lost, locked or
    #: unavailable; None where it was not
    own_history: str | None = None
    max_cost_usd: Decimal | None = None  #: of all its attempts; None: it has no limit of its own
    reply_as: str | None = None  #: text or audio; None: as its session's settings say


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A turn as the store has it: what a reader needs to know of it."""

    state: TurnState
    stream: bool  #: somebody asked that it may be watched
    error_code: str | None
    fence: int  #: of its last claim; 0: there was none
    attempt: int
    step: int
    text: str | None = field(default=None, repr=False)  #: of its reply; None: there is none
    is_fresh: bool = True  #: not final, or just now: its copy may still be written

    @property
    def is_final(self) -> bool:
        """Tell whether it has ended."""
        return self.state in FINAL
