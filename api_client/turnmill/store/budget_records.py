"""What passes between clients, workers and the store of budgets."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from turnmill.domain.budgets import OnExceeded, Period, Scope
from turnmill.domain.dollars import less
from turnmill.domain.ids import SessionId, TurnId


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose budget it is: a scope, and the names in it."""

    scope: Scope
    name: str = field(default="", repr=False)
    value: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What turns may cost, and what they have cost in the period that is now."""

    id: UUID
    scope: Scope
    session_id: SessionId | None = None  #: whose turns it bounds; all four None: everybody's
    user_id: str | None = field(default=None, repr=False)
    tag: tuple[str, str] | None = field(default=None, repr=False)  #: key and value in metadata
    period: Period
    timezone: str  #: in which days, weeks and months begin
    limit_usd: Decimal
    on_exceeded: OnExceeded
    warn_at: tuple[float, ...]  #: shares of the limit that an event tells of
    spent_usd: Decimal  #: of a budget for each turn: 0
    reserved_usd: Decimal  #: for calls that run now, the most that they may cost
    estimated_usd: Decimal  #: of what is spent: for calls of which nobody knows what they cost
    period_start: datetime
    period_end: datetime | None  #: None: it never begins anew
    created_at: datetime
    updated_at: datetime

    @property
    def left_usd(self) -> Decimal:
        """Return what is neither spent nor reserved; 0 where it is overdrawn."""
        return max(less(self.limit_usd, self.spent_usd, self.reserved_usd), Decimal(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBudget:
    """A budget to be set."""

    holder: Holder
    period: Period
    timezone: str
    limit_usd: Decimal
    on_exceeded: OnExceeded
    warn_at: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A call that is about to be made, and the most that it may cost."""

    turn_id: TurnId
    fence: int
    amount_usd: Decimal | None  #: with what its claim owes already; None: nobody knows


class Found(StrEnum):
    """What came of asking."""

    FREE = "free"  #: no budget bounds it
    RESERVED = "reserved"  #: the amount is reserved in all of its budgets
    UNPRICED = "unpriced"  #: a budget bounds it, and nobody knows what it may cost
    EXCEEDED = "exceeded"  #: it does not fit, and is to fail
    LATER = "later"  #: it does not fit, and waits
    AGAIN = "again"  #: others were before it, or a period is over: ask again at once
    FENCED = "fenced"  #: the turn is no longer ours


class Reserved(NamedTuple):
    """The answer to an Ask."""

    found: Found
    wait: timedelta | None = None  #: until it may be worth asking again; None: nobody knows
    over: Sequence[UUID] = ()  #: budgets whose period is over


class Bound(NamedTuple):
    """One budget of a call, as it stands under its lock."""

    budget_id: UUID
    over: bool  #: its period has ended
    short: bool  #: the call does not fit beside what is spent and reserved
    hard: bool  #: nor beside what is spent alone
    fails: bool  #: who does not fit fails
    ends_in: timedelta | None  #: until the period ends; None: it never does
    put_off: int  #: how often the turn was put off


#: A turn that is in the way of nobody's limit but of reservations looks again after so long, and
#: then after twice as long each time.
_FIRST_LOOK = timedelta(seconds=0.5)
_LAST_LOOK = timedelta(seconds=16)


def judged(amount: Decimal | None, bounds: Sequence[Bound], *, granted: bool) -> Reserved:
    """Return what comes of an Ask for which these budgets were found."""
    if not bounds:
        return Reserved(Found.FREE)
    if granted:
        return Reserved(Found.RESERVED)
    if amount is None:
        return Reserved(Found.UNPRICED)
    if over := [one.budget_id for one in bounds if one.over]:
        return Reserved(Found.AGAIN, over=over)
    short = [one for one in bounds if one.short]
    if not short:
        return Reserved(Found.AGAIN)  # it fits, but not behind those of its group
    hard = [one for one in short if one.hard]
    if any(one.fails for one in hard):
        return Reserved(Found.EXCEEDED)
    if not hard:  # what is reserved may come back in part, as soon as calls have ended
        look = _FIRST_LOOK * 2 ** min(short[0].put_off, 10)
        return Reserved(Found.LATER, wait=min(look, _LAST_LOOK))
    ends = [one.ends_in for one in hard if one.ends_in is not None]
    return Reserved(Found.LATER, wait=max(ends) if len(ends) == len(hard) else None)
