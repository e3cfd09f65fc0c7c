"""What passes between a worker and the store of conversations that outgrew their models."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from turnmill.domain.content import Message
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import CompactionKind


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionRecord:
    """What of a session its model is no longer shown, and what stands for it; the last counts."""

    session_id: SessionId
    n: int  #: 1, 2, … of the session
    turn_id: TurnId  #: that was too long without it
    kind: CompactionKind
    up_to_seq: int  #: the last turn that is left out
    turns: int  #: so many are, those of before included
    summary: str | None = field(repr=False)  #: what stands for them; None: nothing does
    input_tokens: int | None  #: that the summary took; they are in its attempt's sum
    output_tokens: int | None
    cost_usd: Decimal | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCompaction:
    """A compaction to be written down."""

    kind: CompactionKind
    up_to_seq: int
    turns: int
    summary: str | None = field(default=None, repr=False)
    input_tokens: int = 0  #: that the summary took; an estimate where the vendor does not say
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    #: of each call that it took, what the vendor said was used: its figures, as a JSON list
    usage: str | None = field(default=None, repr=False)
    service_tier: str | None = None
    cost_usd: Decimal | None = None
    priced_by: str | None = None

    def used(self) -> Iterator[tuple[str, int]]:
        """Yield what was used, by the names under which the store counts it."""
        yield "input_tokens", self.input_tokens
        yield "output_tokens", self.output_tokens
        yield "cached_tokens", self.cached_tokens
        yield "cache_write_tokens", self.cache_write_tokens
        yield "cache_write_1h_tokens", self.cache_write_1h_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidTurn:
    """What was said in a turn that has succeeded."""

    seq: int
    messages: Sequence[Message]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """What of a session a model is to be shown."""

    turns: Sequence[SaidTurn]
    summary: str | None = field(default=None, repr=False)  #: of what is left out
    up_to_seq: int = 0  #: the last turn that is left out
    left_out: int = 0  #: so many turns are
