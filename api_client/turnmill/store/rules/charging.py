"""What becomes of what was reserved for a call, by the verdict over it; and of an estimate."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple, Self
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, case, func, literal, select, update

from turnmill.domain.budgets import Period
from turnmill.store.schema.budget_tables import budgets
from turnmill.store.types import db_now

_NOTHING = literal(0)


def _ends_call(c: Any) -> Any:
    return c.reserved_usd > 0


def _cost_of_call(c: Any, v: Any) -> Any:
    """Return what is charged: what it has cost, or all that was reserved where nobody knows."""
    return case((v.unsettled, c.reserved_usd), else_=func.coalesce(v.cost_usd, 0))


def _truth(c: Any, v: Any) -> Any:
    """Return what takes the place of an estimate; itself, where the price is not known."""
    return case((v.priced, func.coalesce(v.cost_usd, 0)), else_=c.estimated_usd)


#: Column → what it becomes, from the charge as it stands and the verdict. It is one of the claim
#: that has ended, or of the last call that was estimated, about which a question had an answer.
OF_CHARGE: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "reserved_usd": lambda c, v: _NOTHING,
        "charged_usd": lambda c, v: (
            c.charged_usd
            + case(
                (_ends_call(c), _cost_of_call(c, v)),
                else_=_truth(c, v) - c.estimated_usd,
            )
        ),
        "estimated_usd": lambda c, v: case(
            (
                _ends_call(c),
                c.estimated_usd
                + case((v.unsettled, c.reserved_usd), (v.estimated, _cost_of_call(c, v)), else_=0),
            ),
            (v.priced, _NOTHING),
            else_=c.estimated_usd,
        ),
    }
)


def is_of_call(c: Any, v: Any) -> ColumnElement[bool]:
    """Return whether a charge is what was reserved under the claim that the verdict is over."""
    return and_(c.fence == v.fence, c.reserved_usd > 0)


class Booking(NamedTuple):
    """What has changed in one charge, and is to change in its budget."""

    budget_id: UUID
    period: int
    turn_id: UUID
    reserved: Decimal  #: that is reserved no more
    spent: Decimal
    estimated: Decimal  #: of the spent

    @classmethod
    def between(cls, before: Any, after: Any) -> Self:
        """Return it for a row of a charge, as it was and as it is."""
        return cls(
            budget_id=before.budget_id,
            period=before.period,
            turn_id=before.turn_id,
            reserved=before.reserved_usd - after.reserved_usd,
            spent=after.charged_usd - before.charged_usd,
            estimated=after.estimated_usd - before.estimated_usd,
        )


def book(conn: Connection, bookings: Sequence[Booking]) -> None:
    """Bring budgets up to date with their charges, step by step.

    They are locked last, in the order of their ids. One that stands at another period by now is
    done with the one that was charged, and one that bounds each turn for itself sums nothing.
    """
    of_budget: defaultdict[UUID, list[Booking]] = defaultdict(list)
    for one in bookings:
        of_budget[one.budget_id].append(one)
    mine = select(budgets).where(budgets.c.id.in_(list(of_budget)))
    for row in conn.execute(mine.order_by(budgets.c.id).with_for_update(key_share=True)).all():
        now = [one for one in of_budget[row.id] if one.period == row.n]
        if not now or row.period == Period.TURN:
            continue
        conn.execute(
            update(budgets)
            .where(budgets.c.id == row.id)
            .values(
                reserved_usd=row.reserved_usd - sum(one.reserved for one in now),
                spent_usd=row.spent_usd + sum(one.spent for one in now),
                estimated_usd=row.estimated_usd + sum(one.estimated for one in now),
                last_turn_id=now[-1].turn_id,
                wake_until=noted(row, sum(one.spent for one in now)),
            )
        )


def noted(row: Any, spent: Any) -> ColumnElement[Any]:
    """Return until when somebody is to look at a budget of which so much more is spent."""
    reached = row.tell_usd is not None and row.spent_usd + spent >= row.tell_usd
    return func.coalesce(budgets.c.wake_until, db_now()) if reached else budgets.c.wake_until


def is_beyond_share() -> ColumnElement[bool]:
    """Return whether a share of the limit is spent of which nobody was told."""
    return budgets.c.spent_usd >= budgets.c.tell_usd
