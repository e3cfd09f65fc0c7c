"""What workers look for each second is found by what has changed, however much there is."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection

from tests.conftest import fresh_database
from tests.integration.explaining import plan_of
from turnmill.domain.states import EventKind
from turnmill.store.database import Database
from turnmill.store.line.due import overdue
from turnmill.store.nouns import batch_ends, batch_feeding, batch_tending, budgets
from turnmill.store.nouns.subscribing import subscribe
from turnmill_worker.stack.postgres import EmbeddedPostgres

pytestmark = pytest.mark.long  # ten thousand of each

#: Spent in part, told of, and changed by nobody lately.
_BUDGETS = """
INSERT INTO turnmill.budgets (id, scope, name, period, timezone, limit_usd, on_exceeded, warn_at,
    spent_usd, told, tell_usd)
SELECT gen_random_uuid(), 'user', 'user ' || n, 'total', 'UTC', 10, 'wait', '[0.8, 0.95]',
    8.5, 0.8, 9.5
FROM generate_series(1, 10000) n
"""
#: Half of them were told of; of the others nobody wanted to hear. Lines were left where users went.
_BATCHES = """
INSERT INTO turnmill.batches (id, name, content_hash, state, total, last_line, fed_line, sealed_at,
    ended_at, told_at)
SELECT gen_random_uuid(), 'batch ' || n, '\\x00', CASE mod(n, 2) WHEN 0 THEN 'completed' ELSE
    'cancelled' END, 9, 9, 9 - mod(n, 2), now(), now(), CASE mod(n, 2) WHEN 0 THEN now() END
FROM generate_series(1, 10000) n
"""

LOOKS: dict[str, Callable[[Connection], Any]] = {
    "what is overdue": overdue,
    "shares of budgets to tell of": budgets.tell,
    "budgets that were changed": budgets.let_go,
    "batches to be tended": batch_tending.due,
    "ends of batches to tell of": batch_ends.tell_ends,
    "batches to be fed": partial(batch_feeding.to_feed, limit=10),
}


@pytest.fixture(scope="module")
def full(postgres_server: EmbeddedPostgres, migrated_template: str) -> Iterator[Database]:
    with fresh_database(postgres_server, migrated_template) as url:
        database = Database(url)
        with database.begin() as conn:
            conn.exec_driver_sql(_BUDGETS)
            conn.exec_driver_sql(_BATCHES)
            subscribe(conn, "observer:ends", [EventKind.BATCH_FINISHED, EventKind.BATCH_EXPIRED])
        with database.single() as conn:
            conn.exec_driver_sql("VACUUM ANALYZE")
        yield database
        database.close()


@pytest.mark.parametrize("look", LOOKS)
def test_ten_thousand_budgets_and_ended_batches_are_not_read(full: Database, look: str) -> None:
    plan = plan_of(full, LOOKS[look])
    assert not {"budgets", "batches"} & plan.scanned
    assert plan.pages <= 60


def test_a_budget_that_has_changed_is_found_among_them(full: Database) -> None:
    with full.begin() as conn:
        conn.exec_driver_sql(
            "UPDATE turnmill.budgets SET wake_until = now() WHERE name = 'user 7000'"
        )
    with full.single() as conn:
        assert overdue(conn).budgets
    plan = plan_of(full, budgets.let_go)
    assert "budgets" not in plan.scanned
    assert plan.indexes >= {"ix_budgets_changed"}
    with full.begin() as conn:
        budgets.let_go(conn)
    with full.single() as conn:
        assert not overdue(conn).budgets
