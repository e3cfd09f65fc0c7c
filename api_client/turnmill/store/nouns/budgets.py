"""Budgets: set, looked at, removed; and what is told and done when they change."""

from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    true,
    update,
)

from turnmill.domain.budgets import OnExceeded, Period, Scope, next_warning, span_of
from turnmill.domain.errors import BudgetNotFound, InvalidInput
from turnmill.domain.ids import BatchId, SessionId, TurnId
from turnmill.domain.states import FOR_BUDGET, EventKind, TurnState
from turnmill.store.budget_records import Budget, Holder, NewBudget
from turnmill.store.line.charges import has_news
from turnmill.store.line.head import lock_sessions, move_lines, skipping_busy
from turnmill.store.line.reserving import begin_periods
from turnmill.store.readable import read_page
from turnmill.store.records import Moved
from turnmill.store.rules.charging import is_beyond_share
from turnmill.store.schema.budget_tables import budgets, charges
from turnmill.store.schema.event_tables import events
from turnmill.store.schema.tables import sessions, turns
from turnmill.store.types import db_after, db_asof, db_asof_after, db_now, insert_into

#: Who was refused before a limit was raised waits for it from a moment later on.
_LATE = timedelta(seconds=2)


def tag_keys(conn: Connection) -> list[str]:
    """Return the keys of metadata that there are budgets of."""
    named = select(budgets.c.name).where(budgets.c.scope == Scope.TAG).distinct()
    return list(conn.scalars(named.order_by(budgets.c.name)))


def set_budget(conn: Connection, new: NewBudget, *, budget_id: UUID) -> Budget:
    """Let this budget be so from now on; what was spent in its period stays.

    In the caller's transaction.
    """
    now = _now(conn)
    span = span_of(new.period, new.timezone, at=now)
    known = _rows(new.holder, new.period).with_for_update(key_share=True)
    while (row := conn.execute(known).one_or_none()) is None:
        of = new.holder
        key = {"scope": of.scope, "name": of.name, "value": of.value, "period": new.period}
        values = _values(new, spent=Decimal(0), told=0.0)
        statement = insert_into(conn, budgets).values(
            id=budget_id, **key, **values, starts_at=span.starts_at, ends_at=span.ends_at
        )
        conn.execute(statement.on_conflict_do_nothing())
    begin_periods(conn, [row.id])
    row = conn.execute(known).one()
    values = _values(new, spent=row.spent_usd, told=row.told)
    if row.timezone != new.timezone:
        values |= {"starts_at": span.starts_at, "ends_at": span.ends_at}
    conn.execute(
        update(budgets)
        .where(budgets.c.id == row.id)
        .values(**values, wake_until=db_after(_LATE.total_seconds()), updated_at=db_now())
    )
    return _budget(conn.execute(known).one(), now=now)


def _values(new: NewBudget, *, spent: Decimal, told: float) -> dict[str, Any]:
    """Return the columns; of shares that were told of, those count that are still spent."""
    reached = (one for one in new.warn_at if one <= told and spent >= _share(new.limit_usd, one))
    told = max(reached, default=0.0)
    return {
        "timezone": new.timezone,
        "limit_usd": new.limit_usd,
        "on_exceeded": new.on_exceeded,
        "warn_at": list(new.warn_at),
        "told": told,
        "tell_usd": next_warning(new.warn_at, told=told, limit_usd=new.limit_usd),
    }


def _share(limit: Decimal, share: float) -> Decimal:
    return limit * Decimal(str(share))


def get(conn: Connection, holder: Holder, period: Period | None) -> Budget:
    """Return the budget as it stands, or raise BudgetNotFound.

    Raises InvalidInput where there is more than one, and none of their periods is named.
    """
    row = _one(conn, holder, period)
    return _budget(row, now=_now(conn))


def find(conn: Connection, *, after: UUID | None = None, limit: int = 100) -> list[Budget]:
    """Return up to `limit` budgets, oldest first; `after` is the last id of the page before."""
    query = select(budgets).where(budgets.c.scope.not_in((Scope.BATCH, Scope.GONE)))
    if after is not None:
        query = query.where(budgets.c.id > after)
    now = _now(conn)
    read = partial(_budget, now=now)
    return read_page(conn, query, read, by=budgets.c.id, limit=limit, newest_first=False)


def remove(conn: Connection, holder: Holder, period: Period | None) -> None:
    """Bound these turns no more, or raise BudgetNotFound.

    The row stays for a moment, as nobody's, until dispatchers have let those go who wait for it.
    """
    _let_go_of(conn, _one(conn, holder, period).id)


def nobodys(conn: Connection, user_id: str) -> int:
    """Let the budgets of a user be nobody's: he is erased. Return how many there were."""
    mine = (budgets.c.scope == Scope.USER, budgets.c.name == user_id)
    ids = conn.scalars(select(budgets.c.id).where(*mine).order_by(budgets.c.id)).all()
    for one in ids:
        _let_go_of(conn, one)
    return len(ids)


def _let_go_of(conn: Connection, budget_id: UUID) -> None:
    conn.execute(
        update(budgets)
        .where(budgets.c.id == budget_id)
        .values(
            scope=Scope.GONE,
            name=str(budget_id),
            value="",
            tell_usd=None,
            wake_until=db_after(_LATE.total_seconds()),
        )
    )


def bound_session(
    conn: Connection, session_id: SessionId, limit_usd: Decimal | None, *, budget_id: UUID
) -> None:
    """Bound all that a session costs from now on; None: no more. The caller's transaction."""
    holder = Holder(Scope.SESSION, str(session_id))
    if limit_usd is None:
        with suppress(BudgetNotFound):
            remove(conn, holder, Period.TOTAL)
        return
    new = NewBudget(
        holder=holder,
        period=Period.TOTAL,
        timezone="UTC",
        limit_usd=limit_usd,
        on_exceeded=OnExceeded.FAIL,
        warn_at=(),
    )
    set_budget(conn, new, budget_id=budget_id)


def session_limit(conn: Connection, session_id: SessionId) -> Decimal | None:
    """Return what a session may cost in all; None: it is not bounded."""
    rows = conn.execute(_rows(Holder(Scope.SESSION, str(session_id)), Period.TOTAL)).all()
    return rows[0].limit_usd if rows else None


def bound_batch(
    conn: Connection, batch_id: BatchId, limit_usd: Decimal, *, budget_id: UUID
) -> None:
    """Bound all that a batch costs; what does not fit waits. The caller's transaction."""
    new = NewBudget(
        holder=Holder(Scope.BATCH, str(batch_id)),
        period=Period.TOTAL,
        timezone="UTC",
        limit_usd=limit_usd,
        on_exceeded=OnExceeded.WAIT,
        warn_at=(),
    )
    set_budget(conn, new, budget_id=budget_id)


def _one(conn: Connection, holder: Holder, period: Period | None) -> Any:
    found = conn.execute(_rows(holder, period)).all()
    if not found:
        raise BudgetNotFound()
    if len(found) > 1:
        periods = ", ".join(sorted(row.period for row in found))
        raise InvalidInput(
            f"there is a budget for each of {periods}", hint=f"period={found[0].period!r}"
        )
    return found[0]


def _rows(holder: Holder, period: Period | None) -> Select[Any]:
    mine = and_(
        budgets.c.scope == holder.scope,
        budgets.c.name == holder.name,
        budgets.c.value == holder.value,
    )
    return select(budgets).where(mine, true() if period is None else budgets.c.period == period)


def _now(conn: Connection) -> datetime:
    found: datetime = conn.scalars(select(db_now())).one()
    return found


def _budget(row: Any, *, now: datetime) -> Budget:
    """Return the record. What is over by now has begun anew, whether a row says so or not."""
    scope, period = Scope(row.scope), Period(row.period)
    is_over = row.ends_at is not None and row.ends_at <= now
    span = span_of(period, row.timezone, at=now) if is_over else (row.starts_at, row.ends_at)
    nothing = Decimal(0)
    return Budget(
        id=row.id,
        scope=scope,
        session_id=SessionId(UUID(row.name)) if scope is Scope.SESSION else None,
        user_id=row.name if scope is Scope.USER else None,
        tag=(row.name, row.value) if scope is Scope.TAG else None,
        period=period,
        timezone=row.timezone,
        limit_usd=row.limit_usd,
        on_exceeded=OnExceeded(row.on_exceeded),
        warn_at=tuple(map(float, row.warn_at)),
        spent_usd=nothing if is_over else row.spent_usd,
        reserved_usd=nothing if is_over else row.reserved_usd,
        estimated_usd=nothing if is_over else row.estimated_usd,
        period_start=span[0],
        period_end=span[1],
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def tell(conn: Connection, *, limit: int = 50) -> int:
    """Write an event of each share of a limit that is spent by now, and return how many.

    It is one of the turn whose cost has brought the budget there. The caller's transaction, which
    locks the sessions of these turns first.
    """
    found = conn.execute(
        select(budgets.c.id, turns.c.session_id)
        .outerjoin(turns, turns.c.id == budgets.c.last_turn_id)
        .where(has_news())
        .limit(limit)
    ).all()
    ours = lock_sessions(conn, [row.session_id for row in found if row.session_id], wait=False)
    ready = [row.id for row in found if row.session_id is None or row.session_id in ours]
    mine = select(budgets).where(budgets.c.id.in_(ready), has_news()).order_by(budgets.c.id)
    sessions_of = {row.id: row.session_id for row in found}
    rows = conn.execute(mine.with_for_update(key_share=True)).all()
    return sum(_tell(conn, row, sessions_of[row.id]) for row in rows)


def _tell(conn: Connection, row: Any, session_id: UUID | None) -> int:
    turn = select(turns.c.session_id).where(turns.c.id == row.last_turn_id)
    if conn.scalar(turn) != session_id:
        return 0  # a turn of another session was charged meanwhile: the next look tells of that one
    shares = tuple(map(float, row.warn_at))
    reached = [
        one for one in shares if one > row.told and row.spent_usd >= _share(row.limit_usd, one)
    ]
    told = max(reached, default=row.told)
    conn.execute(
        update(budgets)
        .where(budgets.c.id == row.id)
        .values(told=told, tell_usd=next_warning(shares, told=told, limit_usd=row.limit_usd))
    )
    if session_id is None or not reached:
        return 0  # its session is gone, and with it whom it could be told to
    last = select(sessions.c.events).where(sessions.c.id == session_id)
    n = conn.scalars(last).one()
    conn.execute(
        insert(events),
        [
            {
                "session_id": session_id,
                "n": n + at,
                "turn_id": row.last_turn_id,
                "kind": EventKind.THRESHOLD,
                "budget_id": row.id,
                "share": share,
            }
            for at, share in enumerate(reached, 1)
        ],
    )
    conn.execute(
        update(sessions).where(sessions.c.id == session_id).values(events=n + len(reached))
    )
    return len(reached)


def let_go(conn: Connection, *, limit: int = 500) -> Moved:
    """Let up to `limit` turns look again that wait for a budget which was changed.

    For a moment, so that those find it too who were refused just before. The caller's transaction.
    """
    flagged = conn.execute(
        select(budgets, (budgets.c.wake_until <= db_now()).label("late")).where(
            budgets.c.wake_until.is_not(None)
        )
    ).all()
    if not flagged:
        return Moved(0, [])
    moved = wake(conn, or_(*map(_waiting_for, flagged)), limit=limit)
    done = [row.id for row in flagged if row.late]
    if done and moved.turns < limit:
        told = func.coalesce(~is_beyond_share(), true())  # or it is found by nobody who tells
        over = and_(budgets.c.id.in_(done), budgets.c.wake_until <= db_now(), told)
        conn.execute(delete(budgets).where(over, budgets.c.scope == Scope.GONE))
        conn.execute(update(budgets).where(over).values(wake_until=None))
    return moved


def wake(conn: Connection, whose: ColumnElement[bool], *, limit: int = 500) -> Moved:
    """Let turns that wait for a budget look again now. The caller's transaction."""
    waits = and_(turns.c.waits_for == FOR_BUDGET, turns.c.state == TurnState.QUEUED)
    later = turns.c.available_at > db_asof()
    found = (
        select(sessions.c.id, turns.c.id)
        .join(turns, turns.c.id == sessions.c.head_turn_id)
        .where(sessions.c.head_due_at.is_not(None), waits, later, whose)
        .limit(limit)
    )
    pairs = conn.execute(skipping_busy(found)).all()
    if not pairs:
        return Moved(0, [])
    of_session = {SessionId(session_id): TurnId(turn_id) for session_id, turn_id in pairs}
    conn.execute(
        update(turns)
        .where(turns.c.id.in_(list(of_session.values())), waits, later)
        .values(available_at=db_now())
    )
    return Moved(len(pairs), move_lines(conn, of_session))


def _waiting_for(row: Any) -> ColumnElement[bool]:
    """Return which sessions may wait for the budget. One by a tag may be anybody's."""
    found: ColumnElement[bool] = true()
    if row.scope == Scope.USER:
        found = sessions.c.user_id == row.name
    elif row.scope == Scope.SESSION:
        found = sessions.c.id == UUID(row.name)
    return found


def forget_charges(conn: Connection, *, older_than: timedelta, limit: int = 5000) -> int:
    """Remove up to `limit` charges older than that, of calls that have ended; return how many.

    What they were of the period that a budget stands at, its row goes on to say.
    """
    stands = and_(budgets.c.id == charges.c.budget_id, budgets.c.n == charges.c.period)
    old = and_(
        charges.c.at < db_asof_after(-older_than.total_seconds()),
        charges.c.reserved_usd == 0,
        # An estimate of the period that is now goes on to be marked, and may be mended.
        or_(charges.c.estimated_usd == 0, ~select(budgets.c.id).where(stands).exists()),
    )
    mine = select(charges.c.turn_id).where(old).limit(limit)
    gone = delete(charges).where(charges.c.turn_id.in_(mine), old)
    rows = conn.execute(
        gone.returning(charges.c.budget_id, charges.c.period, charges.c.charged_usd)
    ).all()
    sums: dict[tuple[UUID, int], Decimal] = {}
    for row in rows:
        key = (row.budget_id, row.period)
        sums[key] = sums.get(key, Decimal(0)) + row.charged_usd
    for (budget_id, period), amount in sorted(sums.items()):
        conn.execute(
            update(budgets)
            .where(budgets.c.id == budget_id, budgets.c.n == period)
            .values(forgotten_usd=budgets.c.forgotten_usd + amount)
        )
    return len(rows)
