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
from turnmill.store.nouns.batch_counts import counts
from turnmill.store.rules.tallies import recount

TURNS = 1_000_000
OPEN = 5_000
LOOKS = 21

_SESSIONS = """
INSERT INTO turnmill.sessions (id, user_id, provider, model, next_seq)
SELECT gen_random_uuid(), 'ada', 'mock', 'mock', 1001 FROM generate_series(1, :sessions)
"""
_TURNS = """
INSERT INTO turnmill.turns
    (id, session_id, seq, state, max_attempts, batch_id, batch_line, finished_at, cost_usd)
SELECT gen_random_uuid(), s.id, n,
    CASE WHEN line <= :done THEN 'succeeded' ELSE 'queued' END, 5, :batch, line,
    CASE WHEN line <= :done THEN now() END, 0.001
FROM (SELECT id, row_number() OVER () AS k FROM turnmill.sessions) s
CROSS JOIN generate_series(1, 1000) AS n
CROSS JOIN LATERAL (SELECT (s.k - 1) * 1000 + n AS line) AS at
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_batch_of_a_million_turns_is_counted_within_ten_milliseconds(database_url: str) -> None:
    store, batch = Database(database_url), BatchId(new_id())
    with store.begin() as conn:
        conn.execute(text("SET LOCAL statement_timeout = 0"))
        values = {"batch": batch, "lines": TURNS}
        conn.execute(
            text(
                "INSERT INTO turnmill.batches (id, name, content_hash, state, total, last_line,"
                " fed_line) VALUES (:batch, 'million', 'x', 'running', :lines, :lines, :lines)"
            ),
            values,
        )
        conn.execute(text(_SESSIONS), {"sessions": TURNS // 1000})
        conn.execute(text(_TURNS), {"batch": batch, "done": TURNS - OPEN})
        recount(conn, batch)
    took = []
    for _ in range(LOOKS):
        began = time.perf_counter()
        with store.single() as conn:
            found = counts(conn, batch)
        took.append(time.perf_counter() - began)
    expected = {TurnState.QUEUED: OPEN, TurnState.SUCCEEDED: TURNS - OPEN}
    assert (found.states, found.state) == (expected, BatchState.RUNNING)
    assert statistics.median(took) < 0.010, sorted(took)
    store.close()
