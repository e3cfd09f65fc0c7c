"""Making the runs of schedules that are due: any process that looks does it, and one at a time."""

import logging
import random
from contextlib import suppress
from uuid import UUID

from turnmill.domain.errors import (
    DataKeyMissing,
    SessionBusy,
    StoreError,
    StoreUnavailable,
    TurnmillError,
)
from turnmill.store.database import Database
from turnmill.store.nouns import schedules
from turnmill.store.records import Head
from turnmill_worker.process.row_faults import is_of_row

logger = logging.getLogger("turnmill.schedules")

#: Schedules whose runs are made in one look, of so many; what is left is due in the next one.
_AT_ONCE, _AMONG = 100, 10_000


def make_runs(database: Database) -> list[Head]:
    """Make runs, each schedule in a transaction of its own, and return the heads due by them."""
    with database.single() as conn:
        found = schedules.due(conn, limit=_AMONG)
    if len(found) > _AT_ONCE:
        # The oldest of them may stay due for long, for want of a key, say: others take their turn.
        random.shuffle(found)
    heads: list[Head] = []
    for schedule_id in found[:_AT_ONCE]:
        try:
            heads += database.run(schedules.run, schedule_id)
        except DataKeyMissing:
            continue  # its runs are made when the key is back
        except (SessionBusy, StoreUnavailable):
            break  # in the next look; all else that is due must not wait for it
        except Exception as error:  # noqa: BLE001
            # One that cannot be run must not be in the way of the others, for ever.
            _put_off(database, schedule_id, error)
    return heads


def _put_off(database: Database, schedule_id: UUID, error: Exception) -> None:
    """Pause a schedule whose runs cannot be written; what ails the store is waited for."""
    code = error.code if isinstance(error, TurnmillError) else type(error).__name__
    if not is_of_row(error):
        logger.warning("a schedule is not run: %s; trying again", code)
        return
    logger.error(
        "a schedule is paused: %s",
        code,
        extra={"action": "schedule_paused", "schedule": str(schedule_id), "code": code},
    )
    with suppress(StoreError), database.begin() as conn:
        schedules.put_off(conn, schedule_id, error_code=code)
