"""Twins: batches that a vendor has begun beside that of their shard. What they ran is paid for.

A twin is a shard of its own, in which no turn stands: it is cancelled, its results are read, and
what each of its lines has cost is booked as that of a line whose turn is gone.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, func, insert, select

from turnmill.domain.batches import BEGUN_TWICE, ShardState
from turnmill.domain.ids import TurnId
from turnmill.domain.states import FINAL
from turnmill.new_ids import new_id
from turnmill.store.nouns.shard_late import note_lines
from turnmill.store.nouns.shards import Shard
from turnmill.store.postgres import batching
from turnmill.store.schema.batch_tables import batch_shards
from turnmill.store.schema.rollup_tables import calls_gone
from turnmill.store.schema.tables import turns
from turnmill.store.types import db_now


def note_twin(conn: Connection, shard: Shard, ref: str, *, tags: Sequence[str]) -> None:
    """Write down that the vendor has begun the lines of a shard once more, as `ref`.

    The caller's transaction holds the shard: nobody else finds it meanwhile, nor later, by its ref.
    """
    twin = _note_shard(conn, shard, ref)
    ids = batching.left_in(conn, shard.batch_id, shard=str(shard.id), limit=shard.lines + 1)
    note_lines(conn, [*ids, *_ended_in(conn, shard)], shard, tags=tags, twin=twin)
    _note_gone(conn, shard, twin)


def _ended_in(conn: Connection, shard: Shard) -> Sequence[TurnId]:
    """Return its turns that were cancelled, or expired, meanwhile: their lines are there, too."""
    mine = (turns.c.batch_id == shard.batch_id, turns.c.native_ref == str(shard.id))
    query = select(turns.c.id).where(*mine, turns.c.state.in_(FINAL))
    return [TurnId(one) for one in conn.scalars(query)]


def _note_gone(conn: Connection, shard: Shard, twin: tuple[UUID, int]) -> None:
    """Write down once more what is written of lines of the shard whose turns are gone."""
    rows = conn.execute(select(calls_gone).where(calls_gone.c.shard_id == shard.id)).mappings()
    more = {"shard_id": twin[0], "fence": -twin[1]}
    if lines := [dict(row) | more | {"id": new_id()} for row in rows]:
        conn.execute(insert(calls_gone), lines)


def _note_shard(conn: Connection, shard: Shard, ref: str) -> tuple[UUID, int]:
    s = batch_shards.c
    last = select(func.max(s.n)).where(s.batch_id == shard.batch_id).scalar_subquery()
    twin = new_id()
    values = {
        "id": twin,
        "batch_id": shard.batch_id,
        "n": last + 1,
        "provider": shard.provider,
        "model": shard.model,
        "state": ShardState.BEGUN,
        "endpoint": shard.endpoint,
        "lines": shard.lines,
        "tokens": shard.tokens,
        "ref": ref,  # and not what it was made of: its shard is, too
        "error_code": BEGUN_TWICE,
        "due_at": db_now(),
        "asked_at": db_now(),
        "begun_at": db_now(),
    }
    n = conn.execute(insert(batch_shards).values(values).returning(s.n)).scalar_one()
    return twin, int(n)
