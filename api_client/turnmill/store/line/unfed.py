"""Batches whose lines are to become turns, or to be dropped."""

from sqlalchemy import Select, and_, or_, select

from turnmill.domain.batches import BatchMode, BatchState
from turnmill.store.schema.tables import batches

#: Lines of these that no turn was made of will have none.
ENDING = (BatchState.CANCELLED, BatchState.EXPIRED, BatchState.FAILED)


def unfed() -> Select[tuple[object]]:
    """Select the batches that are to be fed; those of vendors' own batches are whoever's shards."""
    runs = and_(
        batches.c.state == BatchState.RUNNING,
        batches.c.sealed_at.is_not(None),
        batches.c.mode != BatchMode.NATIVE,
    )
    ends = batches.c.state.in_(ENDING)
    return select(batches).where(batches.c.fed_line < batches.c.last_line, or_(runs, ends))
