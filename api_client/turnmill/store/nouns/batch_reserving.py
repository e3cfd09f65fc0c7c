"""What a batch may cost at the most is reserved when it is sealed, and less of it line by line.

A charge under the batch's own id, with the fence 0, holds what is reserved for lines that no turn
was made of yet. From then on each call reserves what it may cost: nothing is counted twice, and
what is left of a budget is never less than what the lines that wait may cost.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, false, func, insert, select, true, update

from turnmill.domain.batches import LineState
from turnmill.domain.budgets import OnExceeded, Period, Scope
from turnmill.domain.errors import BudgetExceeded
from turnmill.domain.ids import BatchId
from turnmill.store.line.charges import OF_BATCH
from turnmill.store.schema.batch_tables import batch_lines
from turnmill.store.schema.budget_tables import budgets, charges
from turnmill.store.types import db_now

_NOTHING = Decimal(0)


def binds() -> ColumnElement[bool]:
    """Return which budgets lines are reserved from.

    What bounds each turn for itself is none, nor what bounds a batch: its own calls ask for that.
    """
    mine = budgets.c.scope.not_in((Scope.GONE, Scope.BATCH))
    return (budgets.c.period != Period.TURN) & mine


def any_binds(conn: Connection) -> bool:
    """Tell whether there is a budget that lines could be beyond."""
    return conn.execute(select(budgets.c.id).where(binds()).limit(1)).first() is not None


def reserve(conn: Connection, batch_id: BatchId) -> None:
    """Reserve what the lines may cost at the most; raises BudgetExceeded, and nothing is reserved.

    Of a budget that lets turns wait, as much as is left of it: lines beyond that wait for its next
    period. The caller's transaction seals the batch. Budgets are locked last, in the order of their
    ids.
    """
    locked = select(budgets).where(binds()).order_by(budgets.c.id).with_for_update(key_share=True)
    now = conn.scalars(select(db_now())).one()
    for budget in conn.execute(locked).all():
        amount = _sum(conn, batch_id, budget, true())
        if not amount:
            continue
        is_over = budget.ends_at is not None and budget.ends_at <= now
        used = _NOTHING if is_over else budget.spent_usd + budget.reserved_usd
        left = max(budget.limit_usd - used, _NOTHING)
        if amount > left and budget.on_exceeded == OnExceeded.FAIL:
            raise BudgetExceeded(
                f"the batch may cost up to {amount:f} US dollars, and a budget of"
                f" {Scope(budget.scope).value} has {left:f} left"
            )
        amount = min(amount, left)
        if is_over or not amount:
            continue  # it begins anew with the first call, and knows nothing of what was before
        conn.execute(
            insert(charges).values(
                turn_id=batch_id,
                fence=OF_BATCH,
                budget_id=budget.id,
                period=budget.n,
                reserved_usd=amount,
            )
        )
        _add(conn, budget.id, budget.n, amount)


def held_for(conn: Connection, batch_id: BatchId, lines: Sequence[int]) -> dict[UUID, Decimal]:
    """Return what each budget holds for these lines, before turns are made of them."""
    which = batch_lines.c.line.in_(lines)
    query = select(budgets).join(charges, charges.c.budget_id == budgets.c.id)
    rows = conn.execute(query.where(_held(batch_id))).all()
    return {row.id: _sum(conn, batch_id, row, which) for row in rows}


def release(conn: Connection, batch_id: BatchId, held: Mapping[UUID, Decimal] | None) -> None:
    """Give this back of what each budget holds for lines; None: all. The caller's transaction.

    Behind all that it does with sessions and turns: budgets are locked last.
    """
    rows = conn.execute(
        select(charges.c.reserved_usd.label("held"), charges.c.period.label("held_in"), budgets)
        .join(budgets, budgets.c.id == charges.c.budget_id)
        .where(_held(batch_id))
        .order_by(budgets.c.id)
        .with_for_update(key_share=True)
    ).all()
    for row in rows:
        reserved: Decimal = row.held
        given = reserved if held is None else min(held.get(row.id, _NOTHING), reserved)
        if not given:
            continue
        conn.execute(
            update(charges)
            .where(_held(batch_id), charges.c.budget_id == row.id)
            .values(reserved_usd=reserved - given)
        )
        _add(conn, row.id, row.held_in, -given)


def _held(batch_id: BatchId) -> ColumnElement[bool]:
    c = charges.c
    return and_(c.turn_id == batch_id, c.fence == OF_BATCH, c.reserved_usd > 0)


def _sum(conn: Connection, batch_id: BatchId, budget: Any, which: ColumnElement[bool]) -> Decimal:
    """Return what those lines may cost that the budget bounds; what nobody knows counts nothing."""
    lines = select(func.coalesce(func.sum(batch_lines.c.bound_usd), 0)).where(
        batch_lines.c.batch_id == batch_id,
        batch_lines.c.state == LineState.STAGED,
        which,
        _bounded_by(budget),
    )
    return Decimal(conn.scalars(lines).one())


def _bounded_by(budget: Any) -> ColumnElement[bool]:
    by_scope: Mapping[Scope, ColumnElement[bool]] = {
        Scope.ALL: true(),
        Scope.USER: batch_lines.c.user_id == budget.name,
        Scope.SESSION: batch_lines.c.session == budget.name,
        Scope.TAG: _tag(budget.name) == budget.value,
    }
    return by_scope.get(Scope(budget.scope), false())


def _tag(name: str) -> ColumnElement[str]:
    """Return what the tag of a line's turns will be, if it is theirs and not their session's."""
    # Lines of before said so only with all else, which may be encrypted.
    said = batch_lines.c.content["metadata"][name].as_string()
    return func.coalesce(batch_lines.c.metadata[name].as_string(), said)


def _add(conn: Connection, budget_id: UUID, period: int, amount: Decimal) -> None:
    """Add to what is reserved, unless the budget stands at another period by now."""
    conn.execute(
        update(budgets)
        .where(budgets.c.id == budget_id, budgets.c.n == period)
        .values(reserved_usd=budgets.c.reserved_usd + amount)
    )
