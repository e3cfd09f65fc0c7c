"""Tending batches: any process that looks does it, and one at a time each of them."""

import logging
from datetime import timedelta

from turnmill.domain.errors import SessionBusy, StoreUnavailable, TurnmillError
from turnmill.domain.ids import BatchId
from turnmill.store.database import Database
from turnmill.store.nouns import batch_tending
from turnmill.store.records import Head

logger = logging.getLogger("turnmill.batches")

#: A batch is looked at so often, whoever does.
EVERY = timedelta(seconds=0.7)
#: Turns that are moved in one transaction, and how often in one look; the next one goes on.
_CHUNK = 500
_MOST_CHUNKS = 10


def tend_batches(database: Database, *, every: timedelta = timedelta(0)) -> list[Head]:
    """Note which batches have ended, stop those that are to be, and let go on what is held.

    Returns the heads that are due by it. What anybody has looked at since `every` ago is left out.
    """
    with database.single() as conn:
        found = batch_tending.due(conn, every=every)
    heads: list[Head] = []
    for batch_id in found:
        try:
            heads += tend_batch(database, batch_id)
        except (SessionBusy, StoreUnavailable):
            break  # in the next look; all else that is due must not wait for it
        except TurnmillError as error:  # one of them must not be in the way of the others
            logger.warning("batch %s: %s; trying again", batch_id, error.code)
    return heads


def tend_batch(database: Database, batch_id: BatchId) -> list[Head]:
    """Do what is to be done about one batch now."""
    heads: list[Head] = []
    for _ in range(_MOST_CHUNKS):
        with database.begin() as conn:
            moved = batch_tending.tend(conn, batch_id, limit=_CHUNK)
        heads += moved.heads
        if not moved.turns:
            break
    return heads
