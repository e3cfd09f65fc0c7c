"""A million turns: every page of the tab is there within 200 ms, by indexes and bounds."""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from statistics import median

import pytest

from tests.conftest import fresh_database
from tests.flower.seeds import ids, run
from tests.flower.stage import Visitor, flower, viewer_of
from turnmill_worker.stack.postgres import EmbeddedPostgres
from turnmill_worker.stack.process import wait_until
from turnmill_worker.stack.valkey import EmbeddedValkey

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: 50,000 sessions of 20 turns each; the last one of every tenth is queued, of others it is dead.
_SESSIONS = """
INSERT INTO turnmill.sessions (id, user_id, provider, model, next_seq, unfinished, head_lane,
    head_due_at, head_turn_id)
SELECT md5('s' || n)::uuid, 'u' || n % 1000, 'openai', 'gpt-5', 21,
    CASE WHEN n % 10 = 0 THEN 1 ELSE 0 END, CASE WHEN n % 10 = 0 THEN 'interactive' END,
    CASE WHEN n % 10 = 0 THEN now() END, CASE WHEN n % 10 = 0 THEN md5('t' || n || '/20')::uuid END
FROM generate_series(1, 50000) n
"""
_TURNS = """
INSERT INTO turnmill.turns (id, session_id, seq, state, attempt, max_attempts, error_code,
    created_at, started_at, finished_at, cost_usd)
SELECT md5('t' || n || '/' || q)::uuid, md5('s' || n)::uuid, q, state, 1, 5,
    CASE WHEN state = 'dead' THEN 'overloaded' END, at, at,
    CASE WHEN state <> 'queued' THEN at END, 0.001
FROM generate_series(1, 50000) n, generate_series(1, 20) q, LATERAL (SELECT
    CASE WHEN q < 20 THEN 'succeeded' WHEN n % 10 = 0 THEN 'queued' WHEN n % 3 = 0 THEN 'dead'
        ELSE 'succeeded' END AS state,
    now() - (50000 - n) * interval '20 s' AS at) x
"""
_ATTEMPTS = """
INSERT INTO turnmill.attempts (turn_id, fence, n, kind, worker, ended_at, outcome, cost_usd)
SELECT id, 1, 1, 'send', 'w:1', now(), state, 0.001 FROM turnmill.turns
WHERE finished_at IS NOT NULL
"""


@pytest.fixture(scope="module")
def million(
    postgres_server: EmbeddedPostgres,
    migrated_template: str,
    valkey_server: EmbeddedValkey,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Visitor, str]]:
    log: Path = tmp_path_factory.mktemp("million") / "log"
    with fresh_database(postgres_server, migrated_template) as url:
        for statement in (_SESSIONS, _TURNS, _ATTEMPTS, "VACUUM ANALYZE"):
            run(url, statement)
        viewer = viewer_of(url, postgres_server.url_of("postgres"))
        broker = valkey_server.url
        with flower(database_url=url, viewer_url=viewer, broker_url=broker, log=log) as visitor:
            yield visitor, url


def test_every_page_is_there_within_200_ms(million: tuple[Visitor, str]) -> None:
    visitor, url = million
    (turn,) = ids(run(url, "SELECT id FROM turnmill.turns WHERE state = 'dead' LIMIT 1"))
    (session,) = ids(run(url, "SELECT session_id FROM turnmill.turns WHERE id = %s", turn))
    assert wait_until(lambda: _is_read(visitor), timeout=timedelta(seconds=60))
    slow = {}
    for path in (
        *("", "/waiting", "/waiting?reason=due", "/failed", "/failed?state=dead&code=overloaded"),
        *("/batches", f"/turn/{turn}", f"/session/{session}", "/sessions?user=u7"),
        *("/act?verb=retry&state=dead", "/act?verb=cancel&lane=interactive"),
    ):
        took = median(_took(visitor, f"/turnmill{path}") for _ in range(5))
        slow[path] = round(took, 3)
    assert {path: took for path, took in slow.items() if took > 0.2} == {}
    told = visitor.json("/turnmill/api/overview")
    counted = ids(run(url, "SELECT count(*) FROM turnmill.turns WHERE state = 'dead'"))
    assert [one["turns"] for one in told["ended"]["value"]] == counted


def _is_read(visitor: Visitor) -> bool:
    told = visitor.json("/turnmill/api/overview")
    return all(
        told[part].get("value") is not None for part in ("main", "ended", "spent", "batches")
    )


def _took(visitor: Visitor, path: str) -> float:
    began = time.perf_counter()
    assert visitor.get(path).status == 200, path
    return time.perf_counter() - began
