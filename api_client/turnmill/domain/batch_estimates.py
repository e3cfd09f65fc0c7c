"""What lines of a batch, and a batch as a whole, may take and cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from turnmill.domain.batches import BatchMode
from turnmill.domain.content import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedLine:
    """What a line has a model do."""

    provider: str
    model: str
    system_prompt: str | None = field(repr=False)
    settings: Mapping[str, Any] = field(repr=False)
    before: Sequence[Message] = field(repr=False)  #: that was said elsewhere
    turns: Sequence[Sequence[Message]] = field(repr=False)  #: that are answered, one by one
    read: int = 0  #: tokens at the most of what its session holds already
    awaited: int = 0  #: replies that its session waits for yet: they are read, too


class Money(NamedTuple):
    """What something costs, in US dollars."""

    cost_usd: Decimal | None  #: as an estimate; None: nobody knows
    bound_usd: Decimal | None  #: at the most, if each call is paid once; None: nobody knows


class LineEstimate(NamedTuple):
    """What a line may take."""

    input_tokens: int
    output_tokens: int
    money: Mapping[BatchMode, Money]
    grows: int = 0  #: by so many tokens at the most its session is longer afterwards


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeEstimate:
    """What a batch may take in one way of running it."""

    mode: BatchMode
    cost_usd: Decimal | None  #: as an estimate; None: of a line nobody knows
    bound_usd: Decimal | None  #: at the most, if each call is paid once; None: nobody knows
    takes: timedelta | None  #: under the limits that are known; None: none is


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEstimate:
    """What a batch file may take, before any of it was submitted."""

    lines: int
    turns: int  #: calls of models, if none is repeated
    input_tokens: int  #: as an estimate, as the next
    output_tokens: int
    unknown: int  #: lines that nobody can estimate here: of sessions that stand, or without a price
    modes: Mapping[BatchMode, ModeEstimate]
