"""Money in single steps, by the same rules: the write lock of SQLite stands for those of rows."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, update

from turnmill.domain.budgets import OnExceeded, Period, Scope, tag_said
from turnmill.domain.states import TurnState
from turnmill.store.budget_records import Ask, Bound, Found, Holder, Reserved, judged
from turnmill.store.codec import object_of
from turnmill.store.records import Settlement
from turnmill.store.rules.charging import OF_CHARGE, Booking, book, is_of_call
from turnmill.store.rules.settling import values_of
from turnmill.store.schema.budget_tables import budgets, charges
from turnmill.store.schema.tables import sessions, turns
from turnmill.store.schema.trial_tables import trials
from turnmill.store.types import insert_into

_NOTHING = Decimal(0)


def reserve(conn: Connection, asks: Sequence[Ask], *, tags: Sequence[str]) -> list[Reserved]:
    """Reserve what these calls may cost at the most, one after the other."""
    return [_reserve(conn, ask, tags) for ask in asks]


def _reserve(conn: Connection, ask: Ask, tags: Sequence[str]) -> Reserved:
    turn = conn.execute(
        select(turns, sessions.c.user_id, sessions.c.metadata.label("of_session"))
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(
            turns.c.id == ask.turn_id,
            turns.c.lease_fence == ask.fence,
            turns.c.state == TurnState.RUNNING,
        )
    ).one_or_none()
    if turn is None:
        return Reserved(Found.FENCED)
    found = list(_found(conn, turn, ask, tags))
    granted = bool(found) and not any(one.over or one.short for one, _, _ in found)
    granted = granted and ask.amount_usd is not None
    if granted:
        for bound, period, was in found:
            _note(conn, ask, bound.budget_id, period=period, was=was)
    return judged(ask.amount_usd, [one for one, _, _ in found], granted=granted)


def _found(
    conn: Connection, turn: Any, ask: Ask, tags: Sequence[str]
) -> Iterator[tuple[Bound, int, Decimal]]:
    """Yield each budget of the turn, its period, and what the claim has reserved from it."""
    now = datetime.now(UTC)
    for row in conn.execute(
        select(budgets).where(_of(conn, turn, tags)).order_by(budgets.c.id)
    ).all():
        charge = _charge(conn, ask, row.id)
        was = charge.reserved_usd if charge is not None and charge.period == row.n else _NOTHING
        of_turn = row.period == Period.TURN
        spent = _spent_in(conn, ask, row.id) if of_turn else row.spent_usd
        bound = _bound(
            ask,
            row.id,
            unspent=row.limit_usd - spent,
            reserved=was if of_turn else row.reserved_usd,
            was=was,
            over=row.ends_at is not None and row.ends_at <= now,
            fails=row.on_exceeded == OnExceeded.FAIL,
            ends_in=None if row.ends_at is None else row.ends_at - now,
            put_off=turn.put_off,
        )
        yield bound, row.n, was
    if turn.max_cost_usd is not None:
        charge = _charge(conn, ask, turn.id)
        was = _NOTHING if charge is None else charge.reserved_usd
        unspent = turn.max_cost_usd - _spent_in(conn, ask, turn.id)
        bound = _bound(ask, turn.id, unspent=unspent, reserved=was, was=was, put_off=turn.put_off)
        yield bound, 0, was


def _bound(
    ask: Ask,
    budget_id: UUID,
    *,
    unspent: Decimal,
    reserved: Decimal,
    was: Decimal,
    over: bool = False,
    fails: bool = True,
    **others: Any,
) -> Bound:
    amount = ask.amount_usd or _NOTHING
    return Bound(
        budget_id=budget_id,
        over=over,
        short=amount - was > max(unspent - reserved, _NOTHING),
        hard=amount > unspent,
        fails=fails,
        **{"ends_in": None, **others},
    )


def _of(conn: Connection, turn: Any, tags: Sequence[str]) -> ColumnElement[bool]:
    mine = or_(trials.c.batch_id == turn.batch_id, trials.c.judge_batch_id == turn.batch_id)
    is_of_trial = turn.batch_id is not None and bool(
        conn.execute(select(trials.c.id).where(mine)).first()
    )
    return or_(
        *(
            and_(
                budgets.c.scope == one.scope,
                budgets.c.name == one.name,
                budgets.c.value == one.value,
            )
            for one in _holders(turn, tags, is_of_trial=is_of_trial)
        )
    )


def _holders(turn: Any, tags: Sequence[str], *, is_of_trial: bool) -> Iterator[Holder]:
    yield Holder(Scope.ALL)
    if not is_of_trial:  # its user has not asked for it
        yield Holder(Scope.USER, turn.user_id)
    yield Holder(Scope.SESSION, str(turn.session_id))
    if turn.batch_id is not None:
        yield Holder(Scope.BATCH, str(turn.batch_id))
    of_session, of_turn = object_of(turn.of_session), object_of(turn.metadata)
    for tag in tags:
        value = tag_said(tag, of_turn=of_turn, of_session=of_session)
        if value is not None:
            yield Holder(Scope.TAG, tag, value)


def _charge(conn: Connection, ask: Ask, budget_id: UUID) -> Any:
    return conn.execute(
        select(charges).where(
            charges.c.turn_id == ask.turn_id,
            charges.c.fence == ask.fence,
            charges.c.budget_id == budget_id,
        )
    ).one_or_none()


def _spent_in(conn: Connection, ask: Ask, budget_id: UUID) -> Decimal:
    """Return what the turn was charged so far."""
    rows = conn.scalars(
        select(charges.c.charged_usd).where(
            charges.c.turn_id == ask.turn_id, charges.c.budget_id == budget_id
        )
    )
    return sum(rows, _NOTHING)


def _note(conn: Connection, ask: Ask, budget_id: UUID, *, period: int, was: Decimal) -> None:
    amount = ask.amount_usd or _NOTHING
    charge = _charge(conn, ask, budget_id)
    values: dict[str, Any] = {"period": period, "reserved_usd": amount}
    if charge is not None and charge.period != period:
        values |= {"charged_usd": _NOTHING, "estimated_usd": _NOTHING}
    key = {"turn_id": ask.turn_id, "fence": ask.fence, "budget_id": budget_id}
    conn.execute(
        insert_into(conn, charges)
        .values(**key, **values)
        .on_conflict_do_update(index_elements=list(charges.primary_key.columns), set_=values)
    )
    row = conn.execute(select(budgets).where(budgets.c.id == budget_id)).one_or_none()
    if row is not None and row.period != Period.TURN:
        more = row.reserved_usd + amount - was
        conn.execute(update(budgets).where(budgets.c.id == budget_id).values(reserved_usd=more))


def charge(conn: Connection, settlement: Settlement) -> None:
    """Settle what was reserved for the call, or take back what was estimated for the last one."""
    v = values_of(settlement)
    of_turn = charges.c.turn_id == settlement.turn_id
    mine: ColumnElement[bool] = of_turn & is_of_call(charges.c, v)
    if settlement.reconciles:
        estimated = of_turn & (charges.c.estimated_usd > 0)
        last = select(func.max(charges.c.fence)).where(estimated).scalar_subquery()
        mine = or_(mine, estimated & (charges.c.fence == last))
    before = {_key(row): row for row in conn.execute(select(charges).where(mine)).all()}
    if not before:
        return
    values = {name: rule(charges.c, v) for name, rule in OF_CHARGE.items()}
    conn.execute(update(charges).where(mine).values(values))
    after = {_key(row): row for row in conn.execute(select(charges).where(of_turn)).all()}
    book(conn, [Booking.between(row, after[key]) for key, row in before.items()])


def _key(row: Any) -> tuple[UUID, int, UUID]:
    return row.turn_id, row.fence, row.budget_id
