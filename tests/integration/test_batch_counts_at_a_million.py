"""How far a batch of a million turns is, is known at once, while it runs and when it has ended."""

import statistics
import time

import pytest
from sqlalchemy import text

from turnmill.domain.batches import BatchState
from turnmill.domain.ids import BatchId
from turnmill.domain.states import TurnState
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.nouns.batch_counts import _counted, counts
from turnmill.store.rules.tallies import recount

TURNS = 1_000_000
LOOKS = 21
OF_LINES = "ix_turns_batch_lines"

_SESSIONS = """
INSERT INTO turnmill.sessions (id, user_id, provider, model, next_seq)
SELECT gen_random_uuid(), 'ada', 'mock', 'mock', 1001 FROM generate_series(1, :sessions)
"""
_TURNS = """
INSERT INTO turnmill.turns
    (id, session_id, seq, state, max_attempts, batch_id, batch_line, finished_at, cost_usd)
SELECT gen_random_uuid(), s.id, n,
    CASE WHEN line <= :done THEN 'succeeded' ELSE :state END, 5, :batch, line,
    CASE WHEN line <= :done THEN now() END, 0.001
FROM (SELECT id, row_number() OVER () AS k FROM turnmill.sessions) s
CROSS JOIN generate_series(1, 1000) AS n
CROSS JOIN LATERAL (SELECT (s.k - 1) * 1000 + n AS line) AS at
"""
#: Else a page with a few rows of the test before, that are gone, is left as it is.
_VACUUM = text("VACUUM (ANALYZE, INDEX_CLEANUP ON) turnmill.turns")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("open_lines", "state"),
    [
        pytest.param(5_000, TurnState.QUEUED, id="live"),
        pytest.param(50_000, TurnState.WAITING, id="at a vendor"),
    ],
)
def test_a_batch_of_a_million_turns_is_counted_within_ten_milliseconds(
    database_url: str, open_lines: int, state: TurnState
) -> None:
    store = Database(database_url)
    batch = _running(store, lines=TURNS, done=TURNS - open_lines, state=state)
    took = []
    for _ in range(LOOKS):
        began = time.perf_counter()
        with store.single() as conn:
            found = counts(conn, batch)
        took.append(time.perf_counter() - began)
    expected = {state: open_lines, TurnState.SUCCEEDED: TURNS - open_lines}
    assert (found.states, found.state) == (expected, BatchState.RUNNING)
    assert statistics.median(took) < 0.010, sorted(took)
    store.close()


def test_lines_that_wait_at_a_vendor_are_counted_without_a_look_at_their_rows(
    database_url: str,
) -> None:
    store = Database(database_url)
    batch = _running(store, lines=3_000, done=1_000, state=TurnState.WAITING)
    with store.single() as conn:
        statement = _counted(batch, is_native=True).compile(
            dialect=conn.dialect, compile_kwargs={"literal_binds": True}
        )
        told = conn.exec_driver_sql(f"EXPLAIN (ANALYZE) {statement}").scalars().all()
    assert any(f"Index Only Scan using {OF_LINES}" in line for line in told), told
    assert {line.strip() for line in told if "Heap Fetches" in line} == {"Heap Fetches: 0"}
    store.close()


def _running(store: Database, *, lines: int, done: int, state: TurnState) -> BatchId:
    """Let there be a batch, so many lines of which are done, and the others in this state."""
    batch = BatchId(new_id())
    with store.begin() as conn:
        conn.execute(text("SET LOCAL statement_timeout = 0"))
        values = {"batch": batch, "lines": lines}
        conn.execute(
            text(
                "INSERT INTO turnmill.batches (id, name, content_hash, state, total, last_line,"
                " fed_line) VALUES (:batch, 'million', 'x', 'running', :lines, :lines, :lines)"
            ),
            values,
        )
        conn.execute(text(_SESSIONS), {"sessions": lines // 1000})
        conn.execute(text(_TURNS), {"batch": batch, "done": done, "state": state})
        recount(conn, batch)
    with store.single() as conn:  # as the server does by itself, sooner or later
        conn.execute(_VACUUM)
    return batch
