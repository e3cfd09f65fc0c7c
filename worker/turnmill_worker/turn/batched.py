"""What failures of a batch's turns mean for the others: at once, not with the next look at all."""

import logging
from collections.abc import Sequence

from turnmill.domain.errors import StoreError
from turnmill.domain.ids import TurnId
from turnmill.domain.states import TurnState
from turnmill.store.database import Database

logger = logging.getLogger("turnmill.batches")

#: After these it may make no sense to go on.
FAILURES = frozenset({TurnState.FAILED})


def stop_failing(database: Database, turn_ids: Sequence[TurnId]) -> None:
    """Stop batches that fail again and again, after these turns of theirs.

    What stands in the way of it does not hold up what was settled: a dispatcher looks, too.
    """
    from turnmill.store.nouns import batch_tending  # noqa: PLC0415  few processes have batches

    try:
        with database.single() as conn:
            found = batch_tending.failing(conn, turn_ids)
        for batch_id in found:
            with database.begin() as conn:
                batch_tending.tend(conn, batch_id)
    except StoreError as error:
        logger.warning("a failing batch goes on: %s", error.code)
