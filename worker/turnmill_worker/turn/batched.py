"""What failures of a batch's turns mean for the others: at once, not with the next look at all."""

import logging
from collections.abc import Sequence

from turnmill.domain.errors import StoreError
from turnmill.domain.ids import TurnId
from turnmill.domain.states import TurnState
from turnmill.grouping import Grouped
from turnmill.store.database import Database
from turnmill.store.records import Settled, Settlement

logger = logging.getLogger("turnmill.batches")

#: After these it may make no sense to go on.
FAILURES = frozenset({TurnState.FAILED})
_MOST = 200  #: turns that are looked at together


class Failing:
    """Is told of verdicts that are written, and has the batches stopped that keep failing."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._failed: Grouped[TurnId, None] = Grouped("failing", self._stop_all, most=_MOST)

    def note(self, settlement: Settlement, settled: Settled) -> None:
        """Take note of a verdict, on the event loop; a failure of a batch's turn is looked at."""
        if settlement.batched and settled.state in FAILURES:
            self._failed.give(settled.turn_id)

    def stop(self) -> None:
        """Look at what is left, and end."""
        self._failed.stop()

    def _stop_all(self, turn_ids: Sequence[TurnId]) -> list[None]:
        stop_failing(self._database, turn_ids)
        return [None] * len(turn_ids)


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
