"""Dead letters are retried from the tab while turns run: in order, once, and in nobody's way."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic
from uuid import UUID

import psycopg
import pytest

from tests.flower.seeds import dead_letters, run
from tests.flower.stage import Visitor
from turnmill import Client
from turnmill_worker.stack.celery_parts import command_of
from turnmill_worker.stack.process import wait_until
from turnmill_worker.stack.valkey import EmbeddedValkey

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SOON = timedelta(seconds=120)
#: For how long anybody waits for a lock of a row, in seconds.
MOST_LOCKED = 0.1
_LOCKED = """
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - state_change)), 0)
FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
"""


@contextmanager
def worker(database_url: str, broker_url: str, log: Path) -> Iterator[None]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("TURNMILL_")}
    told = {"TURNMILL_DATABASE_URL": database_url, "TURNMILL_BROKER_URL": broker_url}
    argv = command_of("worker", "--concurrency=50", app="turnmill_worker.app")
    with log.open("wb") as output:
        process = subprocess.Popen(argv, env={**env, **told}, stdout=output, stderr=output)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=40)


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
    ran: dict[UUID, list[str]] = {}
    for session, said in run(
        store_url,
        "SELECT t.session_id, m.content -> 0 ->> 'text' FROM turnmill.turns t"
        " JOIN turnmill.messages m ON m.turn_id = t.id AND m.role = 'user'"
        " WHERE t.state = 'succeeded' AND t.session_id = ANY(%s) ORDER BY t.finished_at",
        sessions,
    ):
        ran.setdefault(session, []).append(said)
    assert ran == {one: [f"line {n}" for n in range(10)] for one in sessions}
