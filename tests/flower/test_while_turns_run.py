"""Dead letters are retried from the tab while turns run: in order, once, and in nobody's way."""

import logging
import re
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from time import monotonic

import psycopg
import pytest

from tests.conftest import fresh_database
from tests.flower.seeds import dead_letters, ran, run
from tests.flower.stage import Visitor, flower, memory_of, viewer_of, worker
from turnmill import Client
from turnmill.store.board import overview, waiting
from turnmill.store.board.looking import look
from turnmill.store.database import Database
from turnmill.store.nouns.lanes import loads
from turnmill.store.schema_name import execute
from turnmill.sync.turns import Turn
from turnmill_worker.stack.celery_parts import FLOWER_BOUNDS
from turnmill_worker.stack.postgres import EmbeddedPostgres
from turnmill_worker.stack.process import wait_until
from turnmill_worker.stack.valkey import EmbeddedValkey

logger = logging.getLogger(__name__)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SOON = timedelta(seconds=120)
LONG = timedelta(seconds=300)
#: For how long anybody waits for a lock of a row, in seconds.
MOST_LOCKED = 0.1
_LOCKED = """
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - state_change)), 0)
FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
"""


#: Turns after which Flower's bounded list of tasks is full, and all of them.
WARM, ALL = 20_000, 100_000
_STATES = "SELECT state, count(*) FROM turnmill.turns GROUP BY 1"
#: Looks at the least, whatever the machine.
MANY = 50
_COUNT = "SELECT count(*) FROM turnmill.turns WHERE finished_at IS NOT NULL"


class Locks(threading.Thread):
    """Looks again and again for how long somebody waits for a lock."""

    def __init__(self, database_url: str) -> None:
        super().__init__(daemon=True)
        self._url = database_url
        self._over = threading.Event()
        self.longest = 0.0
        self.looks = 0

    def run(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as conn:
            while not self._over.wait(0.005):
                (found,) = conn.execute(_LOCKED).fetchone() or (0,)
                self.longest = max(self.longest, float(found))
                self.looks += 1

    def end(self) -> None:
        self._over.set()
        self.join()


def test_five_hundred_dead_letters_run_again_in_order_while_others_are_answered(
    operator: Visitor,
    client: Client,
    store_url: str,
    valkey_server: EmbeddedValkey,
    tmp_path: Path,
) -> None:
    sessions = dead_letters(client, store_url, sessions=50, each=10)
    with worker(store_url, valkey_server.url, tmp_path / "log"):
        live = client.sessions.create(user_id="grace")
        client.send(live, "Hello").result(timeout=60)
        locks = Locks(store_url)
        locks.start()
        location = operator.act("/turnmill/act?verb=retry&state=dead").headers["Location"]
        path = "/turnmill/api/acts/" + location.rpartition("/")[2]
        waited = []
        while not operator.json(path)["over"]:
            began = monotonic()
            client.send(live, "And you?").result(timeout=60)
            waited.append(monotonic() - began)
        locks.end()
        done = operator.json(path)
        assert (done["total"], done["done"], done["refused"]) == (500, 500, {})
        unfinished = "SELECT count(*) FROM turnmill.turns WHERE finished_at IS NULL"
        assert wait_until(lambda: run(store_url, unfinished) == [(0,)], timeout=SOON)
    assert waited and locks.looks > 100
    assert locks.longest < MOST_LOCKED
    assert ran(store_url, sessions) == {one: [f"line {n}" for n in range(10)] for one in sessions}


def test_numbers_are_those_of_the_rows_at_every_moment_while_turns_run(
    operator: Visitor,
    client: Client,
    store_url: str,
    valkey_server: EmbeddedValkey,
    tmp_path: Path,
) -> None:
    sessions = [client.sessions.create(user_id=f"u{n % 9}").id for n in range(200)]
    few, sent = sessions[:5], list[Turn]()
    looks, compared, seen = 0, 0, set[str]()
    with (
        closing(Database(store_url)) as store,
        worker(store_url, valkey_server.url, tmp_path / "log", slots=20),
    ):
        for faults, some in (([], sessions), ("bad_request", sessions), (["overloaded"], few)):
            script = {"mock": {"latency": 0.2, "faults": faults}}
            said = [(one, "Hello") for one in some]
            sent += client.send_many(said, metadata=script, lane="interactive")
        while (left := _open(store)) or looks < MANY:
            looks, seen = looks + 1, seen | set(left)
            before = _final(store_url)
            told = operator.json("/turnmill/api/overview")
            after = _final(store_url)
            if told["main"]["fresh"] and told["ended"]["fresh"]:
                compared += 1
                shown = sum(one["turns"] for one in told["main"]["value"]["groups"])
                assert before["all"] <= len(sent) - shown <= after["all"]
                failed = sum(one["turns"] for one in told["ended"]["value"])
                assert before["failed"] <= failed <= after["failed"]
    assert compared > 5
    assert seen >= {"running", "queued", "retrying"}
    assert after["failed"] == len(sessions)


def _final(store_url: str) -> dict[str, int]:
    """Return how many turns have ended: that never becomes less."""
    ((ended, failed),) = run(
        store_url,
        "SELECT count(*), count(*) FILTER (WHERE state = 'failed') FROM turnmill.turns"
        " WHERE finished_at IS NOT NULL",
    )
    return {"all": ended, "failed": failed}


def _open(store: Database) -> dict[str, int]:
    """Return how many turns are in each open state; what the tab reads then says the same."""
    with look(store, within=SOON) as (conn, _):
        groups, lanes, ended = waiting.groups(conn), loads(conn), overview.ended(conn)
        states = {state: int(turns) for state, turns in execute(conn, _STATES)}
    assert {one.state: one.turns for one in ended} == {
        state: states.pop(state) for state in ("failed", "dead") if state in states
    }
    states.pop("succeeded", None)
    assert sum(one.turns for one in groups) == sum(states.values())
    by_reason = {one.reason: one.turns for one in groups}
    running = states.get("running", 0)
    assert by_reason.get("running", 0) == sum(one.running for one in lanes) == running
    assert sum(one.behind for one in lanes) == by_reason.get("behind", 0)
    return states


@pytest.mark.timeout(1200)
def test_its_memory_is_flat_over_a_hundred_thousand_turns(
    postgres_server: EmbeddedPostgres,
    migrated_template: str,
    valkey_server: EmbeddedValkey,
    tmp_path: Path,
) -> None:
    broker = valkey_server.url
    with (
        fresh_database(postgres_server, migrated_template) as url,
        flower(
            *FLOWER_BOUNDS,
            viewer_url=viewer_of(url, postgres_server.url_of("postgres")),
            broker_url=broker,
            log=tmp_path / "flower",
        ) as visitor,
        worker(url, broker, tmp_path / "worker", slots=200),
        Client(database_url=url, broker_url=broker) as client,
    ):
        sessions = [client.sessions.create(user_id="ada").id for _ in range(1000)]
        held = []
        for upto in range(WARM, ALL + 1, WARM):
            for _ in range(WARM // 1000):
                client.send_many([(one, "Hello") for one in sessions], lane="interactive")
            assert wait_until(lambda upto=upto: is_told(visitor, url, upto), timeout=LONG)  # type: ignore[misc]
            held.append(memory_of(visitor))
            logger.info("%d turns: %.0f MB", upto, held[-1] / 1e6)
        assert heard(visitor) > ALL // 2
    assert max(held) < held[0] * 1.15, held


def is_told(visitor: Visitor, store_url: str, turns: int) -> bool:
    """Tell whether so many turns have ended, and the tab has been looked at meanwhile."""
    assert visitor.get("/turnmill").status == visitor.get("/turnmill/api/overview").status == 200
    return run(store_url, _COUNT) == [(turns,)]


def heard(visitor: Visitor) -> float:
    """Return how many tasks Flower was told of that succeeded."""
    found = re.findall(
        r'^flower_events_total\{.*type="task-succeeded".*\} (\S+)$',
        visitor.get("/metrics").text,
        re.MULTILINE,
    )
    return sum(map(float, found))
