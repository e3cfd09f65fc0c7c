"""Twins: batches that a vendor has begun beside that of their shard. What they ran is paid for.

A twin is a shard of its own, in which no turn stands: it is cancelled, its results are read, and
what each of its lines has cost is booked as that of a line whose turn is gone.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, func, insert, literal, select

from turnmill.domain.batches import BEGUN_TWICE, ShardState
from turnmill.new_ids import new_id
from turnmill.store.line.going import Under
from turnmill.store.nouns.shard_late import budgets_of
from turnmill.store.nouns.shards import Shard
from turnmill.store.postgres import batching
from turnmill.store.rules.endings import in_chunks
from turnmill.store.rules.figures import kept_tag, tag_of
from turnmill.store.schema.batch_tables import batch_shards
from turnmill.store.schema.rollup_tables import calls_gone
from turnmill.store.schema.tables import turns
from turnmill.store.types import db_now


def note_twin(conn: Connection, shard: Shard, ref: str, *, tags: Sequence[str]) -> None:
    """Write down that the vendor has begun the lines of a shard once more, as `ref`.

    The caller's transaction holds the shard: nobody else finds it meanwhile, nor later, by its ref.
    """
    twin, n = _note_shard(conn, shard, ref)
    ids = batching.left_in(conn, shard.batch_id, shard=str(shard.id), limit=shard.lines + 1)
    tag = tag_of(kept_tag(conn)).label("tag")
    for some in in_chunks(ids):
        bounds = budgets_of(conn, some, tags)
        rows = conn.execute(
            select(
                literal(Under.LINE.value).label("kind"),
                turns.c.id.label("turn_id"),
                literal(-n).label("fence"),  # of no claim, and of no other shard of the batch
                *(turns.c.lane, turns.c.batch_id, tag),
            ).where(turns.c.id.in_(some))
        )
        of_all = {"shard_id": twin, "provider": shard.provider, "model": shard.model}
        lines = [
            dict(row) | of_all | {"id": new_id(), "budget_ids": [*map(str, bounds[row["turn_id"]])]}
            for row in rows.mappings()
        ]
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
