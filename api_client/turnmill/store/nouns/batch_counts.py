"""How far a batch is: exact at every moment, and read from as many rows however long it is."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, literal, or_, select, union_all

from turnmill.domain.batches import OVER, BatchMode, BatchState
from turnmill.domain.closing import TIER
from turnmill.domain.errors import BatchNotFound
from turnmill.domain.ids import BatchId
from turnmill.domain.states import CUT_SHORT, FOR_BUDGET, UNFINISHED, TurnState
from turnmill.store.batch_records import BatchCounts
from turnmill.store.rules.tallies import DROPPED, GONE, REUSED
from turnmill.store.schema.batch_tables import batch_lines, batch_shards, batch_tallies
from turnmill.store.schema.budget_tables import budgets
from turnmill.store.schema.limit_tables import accounts
from turnmill.store.schema.tables import IN_BATCH, batches, turns
from turnmill.store.types import db_asof

#: The kind of a row of `accounts` that is of a key, and no breaker's.
_ACCOUNT = "account"
_FOR_BUDGET = "for budget"


def counts(conn: Connection, batch_id: BatchId) -> BatchCounts:
    """Return how far the batch is, or raise BatchNotFound."""
    batch = conn.execute(_batch(batch_id)).one_or_none()
    if batch is None:
        raise BatchNotFound()
    rows = conn.execute(_counted(batch_id, is_native=batch.mode == BatchMode.NATIVE)).all()
    states = _by_state(rows)
    reused, dropped, gone = (_lines(rows, one) for one in (REUSED, DROPPED, GONE))
    standing = sum(states.values()) + reused + dropped + gone
    lines = batch.total if batch.total is not None else batch.standing
    staged = max(lines - standing, 0) if batch.fed_line < batch.last_line else 0
    row_state = BatchState(batch.state)
    if (end := _UNFED.get(row_state)) is not None and staged:
        states[end] = states.get(end, 0) + staged
        staged = 0
    found = BatchCounts(
        total=batch.total,
        closed=batch.total is not None or batch.cancelled_at is not None,
        states={state: states[state] for state in TurnState if states.get(state)},
        paused_because=batch.paused_because if row_state is BatchState.PAUSED else None,
        staged=staged,
        waiting_for_budget=sum(int(row.n) for row in rows if row.what == _FOR_BUDGET),
        reused=reused,
        dropped=dropped,
        gone=gone,
        codes=_by_code(rows),
        shards={row.state: int(row.n) for row in rows if row.what == "shard"},
        **_spent(rows),
        **(_held(conn, batch_id) if any(row.what == "shard" for row in rows) else {}),
    )
    return _standing_at(found, row_state)


def waiting_for_budget() -> ColumnElement[int]:
    """Return how many lines of each batch of a list wait for a budget, as a column of it.

    Of one that has ended, or where nobody has a budget, no turn is read.
    """

    def counted(*, is_native: bool) -> ColumnElement[int]:
        which = _for_budget(turns.c.batch_id == batches.c.id, is_native=is_native)
        first, second = (select(func.count(turns.c.batch_line)).where(one) for one in which)
        return first.scalar_subquery() + second.scalar_subquery()

    return case(
        (or_(batches.c.ended_at.is_not(None), ~_any_budget()), 0),
        (batches.c.mode == BatchMode.NATIVE, counted(is_native=True)),
        else_=counted(is_native=False),
    )


def ended_as(*, succeeded: int, lines: int) -> BatchState:
    """Return what a batch comes to that has run to its end."""
    if succeeded == lines:
        return BatchState.COMPLETED
    return BatchState.COMPLETED_WITH_ERRORS if succeeded else BatchState.FAILED


#: What becomes of lines that are not fed any more.
_UNFED = {BatchState.CANCELLED: TurnState.CANCELLED, BatchState.EXPIRED: TurnState.EXPIRED}
#: What its row says until somebody has looked whether it has ended, or goes on after all.
_RUNS_TO_ITS_END = (OVER - {BatchState.CANCELLED, BatchState.EXPIRED}) | {BatchState.RUNNING}


def _standing_at(found: BatchCounts, state: BatchState) -> BatchCounts:
    """Say where the batch stands by what was counted: its row is told of it a moment later."""
    if state is BatchState.PAUSED and not found.is_done:
        return replace(found, state=state)
    if state is BatchState.PAUSED or state in _RUNS_TO_ITS_END:
        ended = ended_as(succeeded=found.succeeded, lines=found.accepted)
        state = ended if found.is_done else BatchState.RUNNING
    return replace(found, state=state, paused_because=None)


def _batch(batch_id: BatchId) -> Any:
    lines = select(func.count()).where(batch_lines.c.batch_id == batch_id).scalar_subquery()
    return select(
        batches.c.total,
        batches.c.cancelled_at,
        batches.c.state,
        batches.c.mode,
        batches.c.paused_because,
        batches.c.fed_line,
        batches.c.last_line,
        # A count of what stands is dear, and needed until the file says how many there are.
        func.coalesce(batches.c.total, lines).label("standing"),
    ).where(batches.c.id == batch_id)


def _counted(batch_id: BatchId, *, is_native: bool) -> Any:
    """Return one statement, and so one moment, of all that is counted and of what is open."""
    tally, shard = batch_tallies.c, batch_shards.c
    nothing = [literal(0).label(name) for name in _SUMS[1:]]
    ended = (
        select(
            literal("tally").label("what"),
            tally.state,
            tally.error_code,
            *(func.sum(tally[name]).label(name) for name in _SUMS),
        )
        .where(tally.batch_id == batch_id)
        .group_by(tally.state, tally.error_code)
    )
    unfinished = (
        select(
            literal("open"), turns.c.state, literal(""), func.count(turns.c.batch_line), *nothing
        )
        .where(is_open(batch_id))
        .group_by(turns.c.state)
    )
    shards = (
        select(literal("shard"), shard.state, literal(""), func.count(), *nothing)
        .where(shard.batch_id == batch_id)
        .group_by(shard.state)
    )
    lines = (literal(_FOR_BUDGET), literal(""), literal(""), func.count(turns.c.batch_line))
    for_budget = (
        select(*lines, *nothing).where(one)
        for one in _for_budget(turns.c.batch_id == batch_id, is_native=is_native)
    )
    return union_all(ended, unfinished, shards, *for_budget)


def _for_budget(mine: ColumnElement[bool], *, is_native: bool) -> list[ColumnElement[bool]]:
    """Return which turns wait for a budget, in parts that are counted one by one."""
    return [_put_off(mine), _has_no_room(mine, is_native=is_native)]


def _put_off(mine: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return which turns no shard takes for want of money: rows of what is parked are read."""
    return and_(
        *(mine, turns.c.state == TurnState.WAITING),
        *(turns.c.waits_for == IN_BATCH, turns.c.native_ref == ""),
        turns.c.parked_until > db_asof(),
    )


def _has_no_room(mine: ColumnElement[bool], *, is_native: bool) -> ColumnElement[bool]:
    """Return which turns a worker has put off so: rows of what runs call by call are read.

    Where nobody has a budget, none. What stands at a vendor is waiting, and is not read.
    """
    elsewhere = {TurnState.RUNNING, *({TurnState.WAITING} if is_native else ())}
    return and_(
        *(mine, turns.c.batch_id.is_not(None)),
        turns.c.state.in_(sorted(UNFINISHED - elsewhere)),
        turns.c.waits_for == FOR_BUDGET,
        _any_budget(),
    )


def _any_budget() -> ColumnElement[bool]:
    return select(budgets.c.id).exists()


def _held(conn: Connection, batch_id: BatchId) -> dict[str, Any]:
    """Return which account shards wait for that are not done; of several the one for longest."""
    shard, account = batch_shards.c, accounts.c
    of_model = or_(account.model == "", account.model == shard.model)
    row = conn.execute(
        select(account.provider, account.code, account.closed_until)
        .join(batch_shards, and_(account.provider == shard.provider, of_model))
        .where(shard.batch_id == batch_id, shard.due_at.is_not(None))
        .where(account.kind == _ACCOUNT, account.closed_at.is_not(None))
        .where(account.account.not_like(f"%{TIER}%"))
        .order_by(account.closed_until.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return {}
    return {"held_by": f"{row.provider}: {row.code}", "held_until": row.closed_until}


def is_open(batch_id: Any) -> ColumnElement[bool]:
    """Return which turns of the batch are not final: they have an index of their own."""
    return and_(
        turns.c.batch_id == batch_id,
        turns.c.batch_id.is_not(None),
        turns.c.state.in_(sorted(UNFINISHED)),
    )


_SUMS = ("n", "cost_usd", "unpriced", "input_tokens", "output_tokens")


def _by_state(rows: Sequence[Any]) -> dict[TurnState, int]:
    """Return how many lines are in each state; those that were cut short have none of their own."""
    found: dict[TurnState, int] = {}
    for row in rows:
        name = row.error_code if _is_cut_short(row) else row.state
        if row.what != "shard" and name in _STATES:
            found[TurnState(name)] = found.get(TurnState(name), 0) + int(row.n)
    return found


def _lines(rows: Sequence[Any], what: str) -> int:
    return sum(int(row.n) for row in rows if row.state == what and not _is_cut_short(row))


def _is_cut_short(row: Any) -> bool:
    return bool(row.state == DROPPED and row.error_code in CUT_SHORT)


def _by_code(rows: Sequence[Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        if row.what == "tally" and row.error_code and row.n > 0:
            found[row.error_code] = found.get(row.error_code, 0) + int(row.n)
    return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))


def _spent(rows: Sequence[Any]) -> dict[str, Any]:
    sums = {name: sum(getattr(row, name) or 0 for row in rows) for name in _SUMS[1:]}
    return {
        "cost_usd": Decimal(sums["cost_usd"]),
        **{name: int(sums[name]) for name in _SUMS[2:]},
    }


_STATES = frozenset(state.value for state in TurnState)
