"""Making turns of the lines of batches: any process that looks does it, and one at a time."""

import logging
import random
import time
from contextlib import suppress
from functools import partial

from turnmill.domain.errors import (
    DataKeyMissing,
    SessionBusy,
    StoreError,
    StoreUnavailable,
    TurnmillError,
    Unstorable,
)
from turnmill.domain.ids import BatchId
from turnmill.store.capabilities import Capability
from turnmill.store.database import Database
from turnmill.store.nouns import batch_feeding
from turnmill.store.records import Head
from turnmill_worker.process.row_faults import is_of_row

logger = logging.getLogger("turnmill.batches")

#: For so long in one look: all else that is due must not wait for it. The next look goes on.
_WITHIN_SECONDS = 0.4
#: Lines of one transaction. Turns run beside it: neither the lock of the store that is SQLite's,
#: nor that of the interpreter is held for long.
_AT_ONCE, _AT_ONCE_OF_SQLITE = 200, 50


def make_turns(database: Database) -> list[Head]:
    """Make turns of lines, and return the heads that are due by them."""
    with database.single() as conn:
        found = batch_feeding.to_feed(conn)
    # The first ones of so many that time is up must not be fed alone, look by look.
    random.shuffle(found)
    at_once = _AT_ONCE if database.can(Capability.ROW_LOCKS) else _AT_ONCE_OF_SQLITE
    ends = time.monotonic() + _WITHIN_SECONDS
    heads: list[Head] = []
    for batch_id in found:
        more = True
        while more and time.monotonic() < ends:
            more = _feed(database, batch_id, heads, limit=at_once)
    return heads


def _feed(database: Database, batch_id: BatchId, heads: list[Head], *, limit: int) -> bool:
    try:
        fed = database.run(partial(batch_feeding.feed, batch_id=batch_id, limit=limit))
    except (DataKeyMissing, SessionBusy, StoreUnavailable):
        return False  # in the next look
    except Exception as error:  # noqa: BLE001
        # One that cannot be fed must not be in the way of the others.
        code = error.code if isinstance(error, TurnmillError) else type(error).__name__
        if not is_of_row(error):
            logger.warning("a batch is not fed: %s; trying again", code)
            return False
        logger.error(
            "a batch is not fed: %s",
            code,
            extra={"action": "batch_not_fed", "batch": str(batch_id), "code": code},
        )
        return _feed(database, batch_id, heads, limit=1) if limit > 1 else _skip(database, batch_id)
    heads += fed.heads
    return fed.more


def _skip(database: Database, batch_id: BatchId) -> bool:
    """Let the next line, of which no turn can be made, come to nothing: the others go on."""
    with suppress(StoreError), database.begin() as conn:
        return batch_feeding.drop_next(conn, batch_id, error_code=Unstorable.code)
    return False
