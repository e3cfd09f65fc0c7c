"""What was paid for and came back to nobody: its turn was lost, has ended, or its rows are gone.

It changes nothing of what stands but sums of money and tokens. Each is booked once, by whoever
finds it not booked, in the caller's transaction.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from turnmill.domain.ids import BatchId, TurnId
from turnmill.domain.states import FINAL, TurnState
from turnmill.store.line.charges import charge_line, charge_truly, lock_money
from turnmill.store.line.going import Under, figures_of, keep_of_now
from turnmill.store.line.head import lock_sessions
from turnmill.store.records import Settlement
from turnmill.store.rules.charging import Booking, book
from turnmill.store.rules.figures import mark_slots
from turnmill.store.rules.settling import COUNTS, USED, values_of
from turnmill.store.rules.spending import SUMS, Day, keep_spent, row_of
from turnmill.store.rules.tallies import count_ended, count_no_more, count_spent
from turnmill.store.schema.budget_tables import charges
from turnmill.store.schema.rollup_tables import calls_gone, spent_gone
from turnmill.store.schema.tables import attempts, batches, sessions, turns
from turnmill.store.types import db_asof_after, db_day, db_now

_NOTHING = Decimal(0)
_ASKING = ("check", "resume")
_IN_VAIN = FINAL - {TurnState.SUCCEEDED}
#: The code of a turn whose verdict the tables did not take.
UNSTORABLE = "reply_unstorable"
#: So many rows of one day, model and tier stand beside each other before they are joined.
_MOST_KEPT = 8


def has_used(said: Settlement) -> bool:
    """Tell whether a call has used anything, as far as is known."""
    return said.usage is not None or any(getattr(said, name) != 0 for name in COUNTS)


def book_late(conn: Connection, said: Settlement) -> bool:
    """Book what a call has used whose verdict was not written; False: it is booked, or nobody's.

    Who is asked about it again, as `check` does, finds it out then.
    """
    if said.counts_again:
        return False  # of a call that is booked as an estimate
    if lock_sessions(conn, [said.session_id]):
        return has_used(said) and _book_standing(conn, said)
    return _book_gone(conn, said, ends=True)


def book_part(conn: Connection, said: Settlement) -> bool:
    """Book a part of what a call has used, whose verdict is still to come: a summary, say."""
    if lock_sessions(conn, [said.session_id]):
        return _book_standing(conn, said)
    return _book_gone(conn, said, ends=False)


def book_work(conn: Connection, said: Settlement) -> bool:
    """Book what work in the background had used that was stopped: its turn ended, or is gone."""
    if not has_used(said):
        return False
    if lock_sessions(conn, [said.session_id]):
        return _book_stopped(conn, said)
    c = calls_gone.c
    mine = and_(c.turn_id == said.turn_id, c.kind == Under.WORK)
    row = _row(conn, mine)
    if row is None or not conn.execute(delete(calls_gone).where(mine)).rowcount:
        return False
    _keep(conn, row, said)
    charge_truly(conn, said.turn_id, None, said.cost_usd)
    return True


def book_lines(
    conn: Connection,
    shard_id: UUID,
    turn_ids: Collection[TurnId],
    judge: Callable[[Mapping[str, Any]], Settlement],
) -> int:
    """Book what was answered of lines of a shard whose turns are gone; return of how many."""
    c = calls_gone.c
    mine = (c.shard_id == shard_id, c.turn_id.in_(list(turn_ids)), c.kind == Under.LINE)
    found = conn.execute(select(calls_gone).where(*mine).order_by(c.id).with_for_update())
    rows = [dict(row) for row in found.mappings()]
    if not rows:
        return 0
    conn.execute(delete(calls_gone).where(c.id.in_([row["id"] for row in rows])))
    named = {UUID(one) for row in rows for one in row["budget_ids"]}
    periods = lock_money(conn, [row["turn_id"] for row in rows], named)
    for row in rows:
        said = judge(row)
        _keep(conn, row, said)
        _charge_line(conn, row, said.cost_usd, periods)
    return len(rows)


def write_used(conn: Connection, said: Settlement) -> None:
    """Add to the attempt, the turn and its session what was used."""
    v = values_of(said)
    more: Mapping[Any, dict[str, Any]] = {
        attempts: {
            "model": v["model"],
            "provider_request_id": v["request_id"],
            "estimated": v["estimated"],
        },
        turns: {},
        sessions: {"unpriced_attempts": sessions.c.unpriced_attempts + (0 if said.priced else 1)},
    }
    which = {
        attempts: (attempts.c.turn_id == said.turn_id, attempts.c.fence == said.fence),
        turns: (turns.c.id == said.turn_id,),
        sessions: (sessions.c.id == said.session_id,),
    }
    for table, rules in USED.items():
        values = {name: rule(table.c, v) for name, rule in rules.items()}
        conn.execute(update(table).where(*which[table]).values(values | more[table]))


def _book_standing(conn: Connection, said: Settlement) -> bool:
    """Book it with its attempt, which was lost, or of which nothing could be written.

    One that was settled is booked.
    """
    row = conn.execute(
        select(attempts, turns.c.state, turns.c.claimed_for, turns.c.batch_id)
        .join(turns, turns.c.id == attempts.c.turn_id)
        .where(attempts.c.turn_id == said.turn_id, attempts.c.fence == said.fence)
    ).one_or_none()
    if row is None or row.usage is not None or row.kind in _ASKING:
        return False
    if row.outcome != "lost" and row.error_code != UNSTORABLE:
        return False
    asks = row.state == TurnState.RUNNING and row.claimed_for in _ASKING
    if asks or row.state == TurnState.UNKNOWN or _was_told(conn, said):
        return False
    _add_to(conn, said, batched=row.batch_id is not None, final=row.state in FINAL)
    charge_truly(conn, said.turn_id, said.fence, said.cost_usd)
    return True


def _was_told(conn: Connection, said: Settlement) -> bool:
    """Tell whether somebody who has asked about the call was told of its answer."""
    told = select(attempts.c.fence).where(
        attempts.c.turn_id == said.turn_id,
        attempts.c.fence > said.fence,
        attempts.c.kind.in_(_ASKING),
        attempts.c.usage.is_not(None),
    )
    return conn.execute(told.limit(1)).first() is not None


def _book_stopped(conn: Connection, said: Settlement) -> bool:
    last = (
        select(attempts, turns.c.batch_id)
        .join(turns, turns.c.id == attempts.c.turn_id)
        .where(attempts.c.turn_id == said.turn_id, turns.c.state.in_(_IN_VAIN))
    )
    rows = conn.execute(last.order_by(attempts.c.fence.desc())).all()
    made = next((one for one in rows if one.kind not in _ASKING), None)
    later = [one for one in rows if made is not None and one.fence >= made.fence]
    if made is None or any(one.usage is not None for one in later):
        return False
    _add_to(conn, replace(said, fence=made.fence), batched=made.batch_id is not None, final=True)
    charge_truly(conn, said.turn_id, made.fence, said.cost_usd)
    return True


def _add_to(conn: Connection, said: Settlement, *, batched: bool, final: bool) -> None:
    """Add it to what stands; what was counted with its turn's end is counted anew."""
    mine = turns.c.id == said.turn_id
    if final:
        mark_slots(conn, mine)
    if final and batched:
        count_no_more(conn, mine, runs_again=True)
    write_used(conn, said)
    if final and batched:
        count_ended(conn, [said.turn_id])


def _book_gone(conn: Connection, said: Settlement, *, ends: bool) -> bool:
    c = calls_gone.c
    mine = and_(c.turn_id == said.turn_id, c.fence == said.fence, c.kind != Under.LINE)
    row = _row(conn, mine)
    if row is None:
        return False
    if ends:
        asks = and_(c.turn_id == said.turn_id, c.kind == Under.WORK)
        gone = or_(mine, asks) if row["kind"] == Under.WORK and has_used(said) else mine
        if not conn.execute(delete(calls_gone).where(gone)).rowcount:
            return False  # somebody else was first
    if has_used(said):
        _keep(conn, row, said)
    if said.cost_usd is not None or not (has_used(said) or said.unsettled):
        charge_truly(conn, said.turn_id, said.fence, said.cost_usd or _NOTHING, ends=ends)
    return has_used(said)


def _row(conn: Connection, which: ColumnElement[bool]) -> dict[str, Any] | None:
    found = conn.execute(select(calls_gone).where(which).limit(1)).mappings().first()
    return None if found is None else dict(found)


def _keep(conn: Connection, row: Mapping[str, Any], said: Settlement) -> None:
    """Write down what was used, for bills and figures, and with its batch."""
    tier = said.service_tier or ""
    day = conn.scalars(select(db_day(db_now()))).one()
    counts = {name: getattr(said, name) or 0 for name in COUNTS}
    sums = (
        *(1, counts["input_tokens"], counts["cached_tokens"], counts["output_tokens"]),
        *(said.cost_usd or _NOTHING, int(said.cost_usd is None), int(said.estimated)),
    )
    model = said.model or row["model"]
    keep_spent(conn, [row_of(Day(day, row["provider"], model, tier), sums)])
    keep_of_now(conn, [figures_of(row, tier=tier, used={**counts, "cost_usd": said.cost_usd})])
    batch_id = row["batch_id"]
    if batch_id is not None and conn.scalar(select(batches.c.id).where(batches.c.id == batch_id)):
        count_spent(
            conn,
            BatchId(batch_id),
            cost_usd=said.cost_usd,
            input_tokens=counts["input_tokens"],
            output_tokens=counts["output_tokens"],
        )


def _charge_line(
    conn: Connection, row: Mapping[str, Any], cost: Decimal | None, periods: Mapping[UUID, int]
) -> None:
    """Let the budgets of a line's turn know, whether or not they hold anything for it."""
    held = charge_line(conn, row["turn_id"], row["shard_id"], cost)
    if not cost:
        return
    ids = {UUID(one) for one in row["budget_ids"]} - held
    of_row = {one: periods[one] for one in ids if one in periods}
    charge_freely(conn, row["turn_id"], row["fence"], of_row, cost)


def charge_freely(
    conn: Connection, turn_id: UUID, fence: int, periods: Mapping[UUID, int], cost: Decimal
) -> None:
    """Charge these budgets, at these periods, what nothing was reserved for."""
    if not periods:
        return
    zero = {"reserved_usd": _NOTHING, "charged_usd": cost}
    rows = [
        {"turn_id": turn_id, "fence": fence, "budget_id": one, "period": n, **zero}
        for one, n in periods.items()
    ]
    conn.execute(insert(charges), rows)
    book(
        conn,
        [
            Booking(
                budget_id=one,
                period=n,
                turn_id=turn_id,
                reserved=_NOTHING,
                spent=cost,
                estimated=_NOTHING,
            )
            for one, n in periods.items()
        ],
    )


def forget_calls(conn: Connection, *, older_than: timedelta, limit: int = 5_000) -> int:
    """Forget up to `limit` calls of which nobody has heard for so long; return how many."""
    c = calls_gone.c
    old = select(c.id).where(c.gone_at < db_asof_after(-older_than.total_seconds())).limit(limit)
    return conn.execute(delete(calls_gone).where(c.id.in_(old))).rowcount


def join_spent(conn: Connection, *, limit: int = 20) -> int:
    """Make one row of those of a day, model and tier that are many; return of how many it did."""
    g = spent_gone.c
    by = [g[name] for name in Day._fields]
    crowded = select(*by).group_by(*by).having(func.count() > _MOST_KEPT).limit(limit)
    days = [Day(*row) for row in conn.execute(crowded)]
    for day in days:
        keep_spent(conn, _taken(conn, day))
    return len(days)


def _taken(conn: Connection, day: Day) -> list[dict[str, Any]]:
    """Take the rows of it out, and return what they add up to: who comes second finds none."""
    which = and_(*(spent_gone.c[name] == value for name, value in day._asdict().items()))
    rows = conn.execute(delete(spent_gone).where(which).returning(*spent_gone.c)).mappings().all()
    return [row_of(day, [sum(row[name] for row in rows) for name in SUMS])] if rows else []
