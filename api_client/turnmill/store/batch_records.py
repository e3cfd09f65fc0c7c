"""Records of batches: what they are, what their lines say, and what became of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from turnmill.domain.batches import BatchMode, BatchState
from turnmill.domain.content import Part, text_of
from turnmill.domain.ids import BatchId, SessionId, TurnId
from turnmill.domain.states import FINAL, TurnState
from turnmill.store.records import Head


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecord:
    """A batch as it stands."""

    id: BatchId
    name: str
    state: BatchState
    mode: BatchMode
    mode_because: str | None  #: why it was chosen; None: the caller said it
    user_id: str | None = field(repr=False)  #: of lines that name none
    settings: Mapping[str, Any] = field(repr=False)  #: of sessions that lines make, but for theirs
    defaults: Mapping[str, Any] = field(repr=False)  #: provider and model of lines that name none
    reuse: bool
    deadline: datetime | None
    max_cost_usd: Decimal | None
    paused_because: str | None
    metadata: Mapping[str, Any] = field(repr=False)
    last_line: int  #: number of the last line that stands
    fed_line: int  #: of the last one that turns were made of
    total: int | None  #: how many lines it has; None until every one stands
    created_at: datetime
    sealed_at: datetime | None
    ended_at: datetime | None
    cancelled_at: datetime | None
    purged_at: datetime | None  #: its time was over, and its lines went; None: they are there
    #: lines that no budget had room for, of one in a list; None: not looked at, as `counts` does
    waiting_for_budget: int | None = None


class StagedLine(NamedTuple):
    """A line of a file, checked, as it stands until turns are made of it."""

    number: int  #: in the file, from 1
    content: Any  #: a mapping, see `store.nouns.batch_feeding`; or that sealed
    custom_id: str | None = None
    user_id: str | None = None
    session: str | None = None  #: id of the session that it goes on with
    key: bytes | None = None  #: what an equal line of its owner's has, too
    weight: int = 0  #: tokens that go in, estimated
    bound_usd: Decimal | None = None  #: what it may cost at the most
    metadata: Mapping[str, Any] | None = None  #: of its turns, beside what is sealed

    def __repr__(self) -> str:
        """Tell which it is, and never what it says."""
        return f"StagedLine(number={self.number})"


class Fed(NamedTuple):
    """What was made of lines."""

    lines: int  #: that were taken
    heads: Sequence[Head]  #: due now: announce them
    more: bool  #: there are others, and room for them


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCounts:
    """How far a batch is, by its lines; one of several turns counts as its last one does."""

    total: int | None  #: lines of the file; None until every one of them stands
    closed: bool  #: no further line will be accepted: all of them were, or it was cancelled
    states: Mapping[TurnState, int]  #: only states in which there is one
    state: BatchState = BatchState.RUNNING
    paused_because: str | None = None  #: a code; None: it is not paused, or somebody did it
    staged: int = 0  #: that wait to be made turns of
    waiting_for_budget: int = 0  #: of those in `states`, that no budget has room for now
    reused: int = 0  #: that have the answer of an earlier batch, for nothing
    dropped: int = 0  #: that came to no turn
    gone: int = 0  #: that went with their sessions; in none of the other numbers
    codes: Mapping[str, int] = field(default_factory=dict)  #: of those without a reply, by code
    cost_usd: Decimal = Decimal(0)  #: of the turns that have ended, as far as it is known
    unpriced: int = 0  #: turns that have ended, whose cost is not known
    input_tokens: int = 0
    output_tokens: int = 0
    shards: Mapping[str, int] = field(default_factory=dict)  #: batches of a vendor's, by state
    held_by: str | None = None  #: `provider: code` of an account that its shards wait for
    held_until: datetime | None = None  #: one call tries that account from then on

    @property
    def accepted(self) -> int:
        """Return how many lines there are."""
        return sum(self.states.values()) + self.staged + self.reused + self.dropped

    @property
    def finished(self) -> int:
        """Return how many lines nothing more will come of."""
        final = sum(count for state, count in self.states.items() if state in FINAL)
        return final + self.reused + self.dropped

    @property
    def succeeded(self) -> int:
        """Return how many lines have a reply."""
        return self.states.get(TurnState.SUCCEEDED, 0) + self.reused

    @property
    def is_done(self) -> bool:
        """Tell whether nothing will come of it any more."""
        return self.closed and self.finished == self.accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """What a line came to."""

    line: int
    custom_id: str | None
    turn_id: TurnId | None  #: None: it has none yet, or came to none
    session_id: SessionId | None
    state: TurnState | None  #: None: no turn was made of it yet
    parts: Sequence[Part] | None  #: of its reply; None unless it succeeded
    input_tokens: int | None  #: None: the provider did not say
    output_tokens: int | None
    cached_tokens: int | None
    cost_usd: Decimal | None
    error_code: str | None
    answered_by: str | None = None  #: "provider/model"; None unless it succeeded
    answered_because: str | None = None  #: the code for which the session's own was passed over
    attempts: int = 0  #: calls that were made for it
    finish_reason: str | None = None
    model: str | None = None  #: that was asked
    finished_at: datetime | None = None
    api: str | None = None  #: of its vendor, where its line was for one of several
    reused: bool = False  #: it has the answer of an earlier batch, which cost nothing again

    @property
    def text(self) -> str | None:
        """Return the words of the reply; None unless it succeeded."""
        return None if self.parts is None else text_of(self.parts)

    @property
    def is_final(self) -> bool:
        """Tell whether nothing will come of it any more."""
        return self.state in FINAL
