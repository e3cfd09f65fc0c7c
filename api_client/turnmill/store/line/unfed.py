"""Batches whose lines are to become turns, or to be dropped."""

from sqlalchemy import Select, and_, or_, select

from turnmill.domain.batches import BatchMode, BatchState
from turnmill.store.schema.batch_tables import to_be_tended
from turnmill.store.schema.tables import batches

#: Lines of these that no turn was made of will have none.
ENDING = (BatchState.CANCELLED, BatchState.EXPIRED, BatchState.FAILED)


def unfed(*, native: bool = False) -> Select[tuple[object]]:
    """Select the batches that are to be fed: by anybody, or by those who make shards of them."""
    is_native = batches.c.mode == BatchMode.NATIVE
    runs = and_(
        batches.c.state == BatchState.RUNNING,
        batches.c.sealed_at.is_not(None),
        is_native if native else ~is_native,
    )
    left = and_(to_be_tended(), batches.c.fed_line < batches.c.last_line)
    if native:
        return select(batches).where(left, runs)
    return select(batches).where(left, or_(runs, batches.c.state.in_(ENDING)))
