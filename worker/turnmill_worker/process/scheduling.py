"""Making the runs of schedules that are due: any process that looks does it, and one at a time."""

import logging
from contextlib import suppress

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

logger = logging.getLogger("turnmill.schedules")

#: Schedules whose runs are made in one look; what is left is due in the next one.
_AT_ONCE = 100


def make_runs(database: Database) -> list[Head]:
    """Make runs, each schedule in a transaction of its own, and return the heads due by them."""
    with database.single() as conn:
        found = schedules.due(conn, limit=_AT_ONCE)
    heads: list[Head] = []
    for schedule_id in found:
        try:
            heads += database.run(schedules.run, schedule_id)
        except DataKeyMissing:
            continue  # its runs are made when the key is back
        except (SessionBusy, StoreUnavailable):
            break  # in the next look; all else that is due must not wait for it
        except Exception as error:  # noqa: BLE001
            # One that cannot be run must not be in the way of the others, for ever.
            code = error.code if isinstance(error, TurnmillError) else type(error).__name__
            logger.error(
                "a schedule is paused: %s",
                code,
                extra={"action": "schedule_paused", "schedule": str(schedule_id), "code": code},
            )
            with suppress(StoreError), database.begin() as conn:
                schedules.put_off(conn, schedule_id, error_code=code)
    return heads
