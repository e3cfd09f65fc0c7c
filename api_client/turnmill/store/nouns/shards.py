"""Shards: parts of a batch that stand at a vendor, and what is noted before it is done there."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Interval,
    Row,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    update,
)

from turnmill.domain.batches import BEGUN_TWICE, OVER, BatchMode, BatchState, ShardState
from turnmill.domain.ids import BatchId, TurnId, as_uuid
from turnmill.domain.states import TurnState
from turnmill.store.capabilities import Capability, capabilities_of, require
from turnmill.store.nouns.batch_pauses import names_trial
from turnmill.store.postgres import batching, charging
from turnmill.store.schema.batch_tables import batch_shards, batch_tallies
from turnmill.store.schema.rollup_tables import calls_gone
from turnmill.store.schema.tables import IN_BATCH, batches, turns
from turnmill.store.types import db_after, db_asof, db_now

_s = batch_shards.c
#: Every turn of it has what came of it.
OVER_AT_VENDOR = (ShardState.TAKEN, ShardState.DONE)
#: Something is left to do about it.
_TO_DO = and_(_s.due_at.is_not(None), _s.state != ShardState.DONE)
#: What the vendor counts as waiting.
_ENQUEUED = and_(_s.ended_at.is_(None), _s.state.not_in(OVER_AT_VENDOR))
#: Turns of a paused batch wait for it, too: those have no call behind them, and are queued.
_WAITS = (turns.c.state == TurnState.WAITING, turns.c.waits_for == IN_BATCH)
#: Of a vendor that has said that too much waits: what it takes is found out by asking for less.
REFUSED_FOR_WINDOW = "token_limit_exceeded"
_REMEMBERED = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A shard as it stands."""

    id: UUID
    batch_id: BatchId
    n: int
    provider: str
    model: str
    state: ShardState
    endpoint: str
    lines: int
    tokens: int
    fence: int  #: of whoever sees to it
    tries: int  #: in a row that came to nothing
    stored: str = field(repr=False)
    ref: str
    status: str
    outputs: Sequence[str] = field(repr=False)
    error_code: str | None
    created_at: datetime
    begun_at: datetime | None
    ended_at: datetime | None
    #: for how long it has been there, the vendor may know of it, it does, and it has an end; on the
    #: database's clock, and nothing where it is not so
    made_ago: timedelta
    asked_ago: timedelta
    begun_ago: timedelta
    ended_ago: timedelta

    @property
    def is_twin(self) -> bool:
        """Tell whether its lines are those of another one, and nobody wants them from it."""
        return self.error_code == BEGUN_TWICE


@dataclass(frozen=True, slots=True, kw_only=True)
class Native:
    """A batch that is run in batches of its vendors."""

    id: BatchId
    state: BatchState
    mode: BatchMode
    on_leftover: str
    max_cost_usd: Decimal | None  #: of all its turns; None: no limit of its own
    is_cancelled: bool
    is_past: bool  #: its deadline has passed
    is_of_trial: bool = False

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more of it is wanted."""
        return self.is_cancelled or self.is_past or self.state in OVER


@dataclass(frozen=True, slots=True, kw_only=True)
class NewShard:
    """A shard that is to be made of parked turns."""

    id: UUID
    batch_id: BatchId
    provider: str
    model: str
    endpoint: str
    turn_ids: Sequence[TurnId]
    bytes: int
    tokens: int
    bound_usd: Decimal | None


def is_any_open(conn: Connection) -> bool:
    """Tell whether there is anything to be seen to at a vendor, or will be."""
    if Capability.SHARED not in capabilities_of(conn):
        return False
    open_shard = select(_s.id).where(_TO_DO)
    return conn.execute(open_shard.limit(1)).first() is not None or bool(natives(conn))


def natives(conn: Connection) -> list[Native]:
    """Return the batches of which turns may stand at vendors, or are to."""
    require(conn, Capability.SHARED)
    parked = select(turns.c.id).where(turns.c.batch_id == batches.c.id, *_WAITS)
    is_open = batches.c.state.in_((BatchState.RUNNING, BatchState.PAUSED))
    rows = conn.execute(
        select(batches, func.coalesce(batches.c.deadline <= db_asof(), False).label("is_past"))
        .where(
            batches.c.ended_at.is_(None),
            batches.c.sealed_at.is_not(None),
            or_(and_(batches.c.mode == BatchMode.NATIVE, is_open), parked.exists()),
        )
        .order_by(batches.c.id)
    )
    return [_native(row) for row in rows]


def native(conn: Connection, batch_id: BatchId) -> Native | None:
    """Return the batch as it stands; None where it is gone."""
    is_past = func.coalesce(batches.c.deadline <= db_asof(), False).label("is_past")
    row = conn.execute(select(batches, is_past).where(batches.c.id == batch_id)).one_or_none()
    return None if row is None else _native(row)


def enqueued(conn: Connection, *, provider: str, model: str) -> int:
    """Return how many tokens of a model wait at its vendor, and lock that number for all others.

    Until the end of the transaction nobody else makes a shard of the model.
    """
    conn.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 17))"),
        {"key": f"turnmill.shards {provider}/{model}"},
    )
    waiting = select(func.coalesce(func.sum(_s.tokens), 0)).where(
        _s.provider == provider, _s.model == model, _ENQUEUED
    )
    return int(conn.execute(waiting).scalar_one())


def unspent(conn: Connection, batch: Native) -> tuple[Decimal, bool] | None:
    """Return what may still be asked for of a batch's money, and whether some is asked for now.

    None: it has no limit.
    """
    if batch.max_cost_usd is None:
        return None
    tally = batch_tallies.c
    spent = select(func.coalesce(func.sum(tally.cost_usd), 0)).where(tally.batch_id == batch.id)
    asked = select(func.sum(_s.bound_usd)).where(
        _s.batch_id == batch.id, _s.state.not_in(OVER_AT_VENDOR)
    )
    row = conn.execute(select(spent.scalar_subquery(), asked.scalar_subquery())).one()
    return batch.max_cost_usd - row[0] - (row[1] or 0), row[1] is not None


def learned_window(conn: Connection, *, provider: str, model: str) -> int | None:
    """Return how many tokens of a model a vendor may take at once: more it has refused lately."""
    least = select(func.min(_s.tokens)).where(
        _s.provider == provider,
        _s.model == model,
        _s.error_code == REFUSED_FOR_WINDOW,
        _s.ended_at > db_after(-_REMEMBERED.total_seconds()),
    )
    found = conn.execute(least).scalar_one()
    return None if found is None else max(int(found) // 2, 1)


def make(conn: Connection, shard: NewShard) -> int:
    """Write the shard down with those of its turns that are still parked; return how many.

    Nothing is written where none is.
    """
    lines = batching.assign(conn, shard.turn_ids, shard=str(shard.id))
    if not lines:
        return 0
    number = select(func.coalesce(func.max(_s.n), 0) + 1).where(_s.batch_id == shard.batch_id)
    conn.execute(
        insert(batch_shards).values(
            id=shard.id,
            batch_id=shard.batch_id,
            n=number.scalar_subquery(),
            provider=shard.provider,
            model=shard.model,
            state=ShardState.READY,
            endpoint=shard.endpoint,
            lines=lines,
            bytes=shard.bytes,
            tokens=shard.tokens,
            bound_usd=shard.bound_usd,
            due_at=db_now(),
        )
    )
    return lines


def take_due(conn: Connection, *, lease: timedelta, shard_id: UUID | None = None) -> Shard | None:
    """Take a shard that is due, under a fence, for as long as the lease; None: there is none."""
    require(conn, Capability.SHARED)
    due = select(_s.id).where(_s.due_at <= db_asof(), _TO_DO)
    if shard_id is not None:
        due = due.where(_s.id == shard_id)
    first = due.order_by(_s.due_at).limit(1).with_for_update(skip_locked=True).scalar_subquery()
    row = conn.execute(
        update(batch_shards)
        .where(_s.id == first)
        .values(fence=_s.fence + 1, due_at=db_after(lease.total_seconds()))
        .returning(*_READ)
    ).one_or_none()
    return None if row is None else _shard(row)


def holds(conn: Connection, shard: Shard, *, lease: timedelta) -> bool:
    """Keep the shard for as long as the lease; False: somebody else has it by now, or it is done.

    Whoever keeps it while it is seen to may come a moment after the last note of it.
    """
    mine = update(batch_shards).where(*_mine(shard), _TO_DO)
    kept = mine.values(due_at=db_after(lease.total_seconds()))
    return conn.execute(kept).rowcount == 1


def note(
    conn: Connection, shard: Shard, *, due_in: timedelta | None, **values: Any
) -> Shard | None:
    """Write down how far it is; None: somebody else has it by now, and nothing was written.

    `due_in` says when it is to be seen to next, None that nothing is left to do.
    """
    found = _write(conn, shard, due_in, values)
    if found is not None and found.state in OVER_AT_VENDOR:
        charging.give_back(conn, shard.id)  # of lines that were never run
    return found


def let_wait(conn: Connection, shard: Shard, *, due_in: timedelta) -> bool:
    """Leave a shard that the vendor has not begun, of a paused batch, until then. False: not ours.

    It may stay paused for ever: nothing is held for its lines meanwhile, and it is asked anew. What
    is stored of it then goes with the shard, as all that is stored under its name.
    """
    if _write(conn, shard, due_in, {"state": ShardState.READY}) is None:
        return False
    charging.give_back(conn, shard.id)
    return True


def dissolve(conn: Connection, shard: Shard, *, error_code: str | None) -> bool:
    """End a shard that the vendor has not begun: its turns are parked again. False: not ours."""
    values = {"state": ShardState.DONE, "error_code": error_code, "ended_at": db_now()}
    if _write(conn, shard, None, values) is None:
        return False
    _park_again(conn, shard)
    return True


def discard(conn: Connection, shard: Shard) -> bool:
    """Remove a shard that nothing is left in, and of which no vendor knows; False: not ours."""
    if not conn.execute(delete(batch_shards).where(*_mine(shard))).rowcount:
        return False
    _park_again(conn, shard)
    return True


def _park_again(conn: Connection, shard: Shard) -> None:
    ids = batching.left_in(conn, shard.batch_id, shard=str(shard.id), limit=shard.lines + 1)
    batching.assign(conn, ids, shard="", was=str(shard.id))
    charging.give_back(conn, shard.id)  # budgets are locked last, after turns


def _write(
    conn: Connection, shard: Shard, due_in: timedelta | None, values: Mapping[str, Any]
) -> Shard | None:
    due = None if due_in is None else db_after(due_in.total_seconds())
    row = conn.execute(
        update(batch_shards).where(*_mine(shard)).values(due_at=due, **values).returning(*_READ)
    ).one_or_none()
    return None if row is None else _shard(row)


def known_refs(conn: Connection, refs: Collection[str]) -> set[str]:
    """Return which of a vendor's batches are known to be of a shard."""
    return set(conn.scalars(select(_s.ref).where(_s.ref.in_(refs))))


def holds_any(conn: Connection, shard: Shard, custom_ids: Collection[str]) -> bool:
    """Tell whether one of these, as a vendor names them, is a turn of the shard, or was one.

    Whatever has become of it since: one that was cancelled there is one.
    """
    ids = [found for one in custom_ids if (found := as_uuid(one)) is not None]
    mine = select(turns.c.id).where(
        turns.c.id.in_(ids),
        turns.c.batch_id == shard.batch_id,
        turns.c.native_ref == str(shard.id),
    )
    if conn.execute(mine.limit(1)).first() is not None:
        return True
    gone = select(calls_gone.c.id).where(
        calls_gone.c.shard_id == shard.id, calls_gone.c.turn_id.in_(ids)
    )
    return conn.execute(gone.limit(1)).first() is not None


def next_due(conn: Connection) -> timedelta | None:
    """Return in how long a shard is due; None: none will be."""
    seconds = func.extract("epoch", func.min(_s.due_at) - func.clock_timestamp())
    found = conn.execute(select(seconds).where(_TO_DO)).scalar_one()
    return None if found is None else timedelta(seconds=max(float(found), 0.0))  # type: ignore[redundant-expr]


def of_batch(conn: Connection, batch_id: BatchId) -> list[Shard]:
    """Return the shards of a batch, in order."""
    query = select(*_READ).where(_s.batch_id == batch_id).order_by(_s.n)
    return [_shard(row) for row in conn.execute(query)]


def run_alone(conn: Connection, batch_id: BatchId, *, because: str) -> None:
    """Let a batch run call by call from now on: its vendor takes no others."""
    mine = (batches.c.id == batch_id, batches.c.mode == BatchMode.NATIVE)
    values = {"mode": BatchMode.LIVE, "mode_because": because[:200]}
    conn.execute(update(batches).where(*mine).values(**values))


def parked(conn: Connection, batch_id: BatchId, *, most: int) -> tuple[int, int]:
    """Count the turns that may be put into a shard, and those that no budget has room for now.

    Of so many at the most.
    """
    some = (
        select((turns.c.parked_until > db_asof()).label("put_off"))
        .where(turns.c.batch_id == batch_id, *_WAITS, turns.c.native_ref == "")
        .limit(most)
        .subquery()
    )
    put_off = func.count().filter(some.c.put_off)
    every, waiting = conn.execute(select(func.count(), put_off).select_from(some)).one()
    return every - waiting, waiting


def _ago(moment: ColumnElement[Any]) -> ColumnElement[timedelta]:
    nothing = func.make_interval(0, type_=Interval)
    return func.coalesce(func.clock_timestamp() - moment, nothing, type_=Interval)


_READ = (
    *batch_shards.c,
    _ago(_s.created_at).label("made_ago"),
    _ago(func.coalesce(_s.asked_at, _s.created_at)).label("asked_ago"),
    _ago(_s.begun_at).label("begun_ago"),
    _ago(_s.ended_at).label("ended_ago"),
)


def _mine(shard: Shard) -> tuple[ColumnElement[bool], ...]:
    return (_s.id == shard.id, _s.fence == shard.fence)


def _shard(row: Row[Any]) -> Shard:
    found = {name: getattr(row, name) for name in Shard.__dataclass_fields__}
    return Shard(**{**found, "state": ShardState(row.state), "outputs": tuple(row.outputs or ())})


def _native(row: Row[Any]) -> Native:
    return Native(
        id=BatchId(row.id),
        state=BatchState(row.state),
        mode=BatchMode(row.mode),
        on_leftover=row.on_leftover,
        max_cost_usd=row.max_cost_usd,
        is_cancelled=row.cancelled_at is not None,
        is_past=bool(row.is_past),
        is_of_trial=names_trial(row.metadata),
    )
