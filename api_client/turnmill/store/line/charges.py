"""Charges, where it is not a worker's verdict that ends a call: its claim was lost, or goes on."""

from collections.abc import Collection
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Select, and_, or_, select, update

from turnmill.domain.batches import ShardState
from turnmill.domain.budgets import Period
from turnmill.domain.ids import TurnId
from turnmill.domain.states import OnAmbiguous, TurnState
from turnmill.store.capabilities import Capability, capabilities_of
from turnmill.store.rules.charging import Booking, book, is_beyond_share
from turnmill.store.schema.batch_tables import batch_shards
from turnmill.store.schema.budget_tables import budgets, charges
from turnmill.store.schema.named_turns import still_in
from turnmill.store.schema.tables import batches, sessions, turns
from turnmill.store.types import db_asof_after

#: The fence of what a batch holds for its lines: no claim has it.
OF_BATCH = 0
_NOTHING = Decimal(0)
_A_WHILE = timedelta(minutes=10)


def has_news() -> ColumnElement[bool]:
    """Return whether so much of a budget is spent that somebody is to be told.

    Whoever charges it so far notes it in `wake_until`, by which it is found.
    """
    return and_(budgets.c.wake_until.is_not(None), is_beyond_share())


def to_be_tended() -> ColumnElement[bool]:
    """Return whether there is such a budget, or one that was changed, by an index of those."""
    return select(budgets.c.id).where(budgets.c.wake_until.is_not(None)).exists()


def charge_lost(conn: Connection, turn_ids: Collection[TurnId]) -> None:
    """Charge what was reserved for calls of these turns, whose workers were lost, as estimates.

    Nobody knows whether they were executed, but for sessions that note it before a call leaves: of
    what never left nothing is charged. The caller's transaction holds the locks of the turns.
    """
    never_left = and_(sessions.c.on_ambiguous == OnAmbiguous.HOLD, turns.c.sent_at.is_(None))
    rows = conn.execute(
        select(charges, never_left.label("never_left"))
        .join(turns, turns.c.id == charges.c.turn_id)
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(charges.c.turn_id.in_(turn_ids), charges.c.reserved_usd > 0, _is_of_claim())
        .order_by(charges.c.turn_id)
    ).all()
    book(conn, [_moved(conn, row, _NOTHING if row.never_left else None) for row in rows])


def charge_orphans(conn: Connection, *, limit: int = 500) -> int:
    """Charge what is still reserved for claims that ended a while ago; return how many there were.

    There are none, unless somebody has changed rows by hand, or code of before budgets was at work.
    """
    runs = and_(
        turns.c.id == charges.c.turn_id,
        still_in(TurnState.RUNNING),
        turns.c.lease_fence == charges.c.fence,
    )
    old = and_(
        charges.c.reserved_usd > 0,
        _is_of_claim(),
        charges.c.at < db_asof_after(-_A_WHILE.total_seconds()),
    )
    orphans = select(charges).where(old, ~select(turns.c.id).where(runs).exists())
    rows = conn.execute(_of_nobody_else(orphans.limit(limit))).all()
    book(conn, [_moved(conn, row, None) for row in rows])
    return len(rows) or _give_back_of_batches(conn, limit=limit) or _give_back_orphans(conn)


def _is_of_claim() -> ColumnElement[bool]:
    """Return whether it is of a claim: a batch's own, and that of its lines, come back with them.

    See `batch_reserving`, and `give_back`.
    """
    return charges.c.fence > 0


def _of_nobody_else(rows: Select[Any]) -> Select[Any]:
    """Lock those that nobody else puts right at this moment: each is booked once."""
    return rows.with_for_update(key_share=True, skip_locked=True)


def _give_back_of_batches(conn: Connection, *, limit: int) -> int:
    """Give back what is held for lines of batches that are over, or gone; return of how many.

    There is none, unless code of before has left it: of lines that went with their users.
    """
    goes_on = and_(batches.c.id == charges.c.turn_id, batches.c.ended_at.is_(None))
    left = select(charges).where(
        charges.c.reserved_usd > 0,
        charges.c.fence == OF_BATCH,
        ~select(batches.c.id).where(goes_on).exists(),
    )
    rows = conn.execute(_of_nobody_else(left.limit(limit))).all()
    book(conn, [_moved(conn, row, _NOTHING) for row in rows])
    return len(rows)


def _give_back_orphans(conn: Connection) -> int:
    """Give back what is held for lines of a shard that is over, or gone: of code of before, say.

    Of one at a time, and with nothing else: budgets are locked in the order of their ids.
    """
    if Capability.SHARED not in capabilities_of(conn):
        return 0
    from turnmill.store.postgres.charging import give_back  # noqa: PLC0415  of workers alone

    s = batch_shards.c
    stands = and_(s.id == charges.c.shard_id, s.state.not_in((ShardState.TAKEN, ShardState.DONE)))
    held = select(charges.c.shard_id).where(
        charges.c.shard_id.is_not(None), ~select(s.id).where(stands).exists()
    )
    shard_id = conn.scalar(held.limit(1))
    if shard_id is None:
        return 0
    give_back(conn, shard_id)
    return 1


def lock_money(
    conn: Connection, turn_ids: Collection[UUID], others: Collection[UUID] = ()
) -> dict[UUID, int]:
    """Lock what these turns were charged, then those budgets and `others`; return their periods.

    Each kind in the order of its keys, behind turns and before tallies, as the statement that
    settles does. Of what bounds each turn for itself no period is told.
    """
    mine = select(charges.c.budget_id).where(charges.c.turn_id.in_(turn_ids))
    held = conn.scalars(mine.order_by(*charges.primary_key).with_for_update(key_share=True))
    query = select(budgets.c.id, budgets.c.n, budgets.c.period)
    query = query.where(budgets.c.id.in_({*held, *others})).order_by(budgets.c.id)
    found = conn.execute(query.with_for_update(key_share=True)).all()
    return {row.id: row.n for row in found if row.period != Period.TURN}


def charge_line(
    conn: Connection, turn_id: UUID, shard_id: UUID, cost: Decimal | None
) -> frozenset[UUID]:
    """Charge what is held for a line of a shard whose turn has ended; return of which budgets.

    None of the cost: all of it, as an estimate. See `lock_money`.
    """
    # A turn has few; a shard has those of all its lines, and none are looked for by it.
    of_turn = conn.execute(select(charges).where(charges.c.turn_id == turn_id)).all()
    rows = [row for row in of_turn if row.shard_id == shard_id]
    book(conn, [_moved(conn, row, cost) for row in rows])
    for row in rows:
        conn.execute(update(charges).where(_is(row)).values(shard_id=None))
    return frozenset(row.budget_id for row in rows)


def charge_part(conn: Connection, turn_id: TurnId, fence: int, cost: Decimal) -> None:
    """Charge what a claim has cost so far, of what is reserved for it; the rest stays reserved."""
    rows = conn.execute(
        select(charges).where(
            charges.c.turn_id == turn_id, charges.c.fence == fence, charges.c.reserved_usd > 0
        )
    ).all()
    left = [max(row.reserved_usd - cost, _NOTHING) for row in rows]
    book(
        conn,
        [_moved(conn, row, cost, left=rest) for row, rest in zip(rows, left, strict=True)],
    )


def charge_truly(
    conn: Connection, turn_id: TurnId, fence: int | None, cost: Decimal | None, *, ends: bool = True
) -> None:
    """Charge what a call has cost after all, in place of what is reserved or estimated for it.

    `fence` is that of its claim; None: whichever it was. None of the cost leaves all as it is, and
    so does what was charged truly before. Unless it `ends`, the rest stays reserved.
    """
    if cost is None:
        return
    open_one = or_(charges.c.reserved_usd > 0, charges.c.estimated_usd > 0)
    whose = [charges.c.turn_id == turn_id, open_one, _is_of_claim()]
    if fence is not None:
        whose.append(charges.c.fence == fence)
    mine = select(charges).where(*whose).order_by(*charges.primary_key)
    rows = conn.execute(mine.with_for_update(key_share=True)).all()
    book(conn, [_trued(conn, row, cost, ends=ends) for row in rows])


def _trued(conn: Connection, row: Any, cost: Decimal, *, ends: bool) -> Booking:
    if row.reserved_usd > 0:
        left = _NOTHING if ends else max(row.reserved_usd - cost, _NOTHING)
        return _moved(conn, row, cost, left=left)
    conn.execute(
        update(charges)
        .where(_is(row))
        .values(charged_usd=row.charged_usd - row.estimated_usd + cost, estimated_usd=_NOTHING)
    )
    return Booking(
        budget_id=row.budget_id,
        period=row.period,
        turn_id=row.turn_id,
        reserved=_NOTHING,
        spent=cost - row.estimated_usd,
        estimated=-row.estimated_usd,
    )


def _is(row: Any) -> ColumnElement[bool]:
    c = charges.c
    return and_(c.turn_id == row.turn_id, c.fence == row.fence, c.budget_id == row.budget_id)


def _moved(
    conn: Connection, row: Any, cost: Decimal | None, *, left: Decimal = _NOTHING
) -> Booking:
    """Charge this cost; None: all that is reserved, as an estimate."""
    estimate = row.reserved_usd if cost is None else _NOTHING
    spent = estimate if cost is None else cost
    conn.execute(
        update(charges)
        .where(_is(row))
        .values(
            reserved_usd=left,
            charged_usd=row.charged_usd + spent,
            estimated_usd=row.estimated_usd + estimate,
        )
    )
    return Booking(
        budget_id=row.budget_id,
        period=row.period,
        turn_id=row.turn_id,
        reserved=row.reserved_usd - left,
        spent=spent,
        estimated=estimate,
    )
