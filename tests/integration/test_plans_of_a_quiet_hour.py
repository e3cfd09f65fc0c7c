"""A crowd that comes after a quiet hour costs no more: plans that are kept look rows up by keys.

Statistics of a quiet hour say that nothing waits, and a worker keeps the plans that it made then.
"""

from collections.abc import Iterator

import pytest

from tests import rows, steps
from tests.conftest import fresh_database
from tests.integration.explaining import pages_read
from tests.integration.test_store_plans import CASES, CROWD, LONG_LINE, RUNNING
from turnmill.store.database import Database
from turnmill_worker.stack.postgres import EmbeddedPostgres

pytestmark = pytest.mark.long  # half a minute of a core

#: What some may touch then. It may grow with what runs, or with the heads that are looked among:
#: both have a bound. Versions of rows that nobody has cleared away are among it.
AFTER_A_QUIET_HOUR = {
    "an announcement": 1500,
    "a look for lost turns": 7000,  # they are locked, in their order, before they are moved
    "what a dispatcher looks for each second": 1500,
    "a look for deleted sessions": 80,
    "a look at all backlogs": 80,
    "a look for what nobody took": 80,
}


@pytest.fixture(scope="module")
def surprised(postgres_server: EmbeddedPostgres, migrated_template: str) -> Iterator[Database]:
    """A store whose plans are of a quiet hour, in which a crowd has come since."""
    with fresh_database(postgres_server, migrated_template) as url:
        database = Database(url, generic_plans=True)
        for _ in range(20):
            steps.answer(database, steps.send(database, rows.start(database)).turn_id)
        with database.single() as conn:
            conn.exec_driver_sql("VACUUM ANALYZE")
        with database.begin() as conn:
            for table in ("sessions", "turns", "messages", "attempts"):
                conn.exec_driver_sql(f"ALTER TABLE turnmill.{table} SET (autovacuum_enabled=false)")
            conn.exec_driver_sql(CROWD)
            conn.exec_driver_sql(RUNNING)
            conn.exec_driver_sql(LONG_LINE)
        yield database
        database.close()


@pytest.mark.parametrize("name", CASES)
def test_the_work_does_not_grow_then_either(surprised: Database, name: str) -> None:
    read = pages_read(surprised, CASES[name].call, again=6)
    assert read <= AFTER_A_QUIET_HOUR.get(name, CASES[name].pages)
