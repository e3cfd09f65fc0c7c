"""Flower without its database for a while, killed, started again: pages are back by themselves."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from tests.flower.seeds import dead_letters, run
from tests.flower.stage import Visitor, flower, memory_of, viewer_of
from turnmill import Client
from turnmill.store.schema import migrate
from turnmill_worker.stack import ports
from turnmill_worker.stack.postgres import EmbeddedPostgres
from turnmill_worker.stack.process import wait_until
from turnmill_worker.stack.valkey import EmbeddedValkey

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SOON = timedelta(seconds=30)
#: Of any page, whatever the database does: its own patience, and what a busy machine takes.
AT_ONCE = 5.0
PAGES = ("/turnmill", "/turnmill/waiting", "/turnmill/failed", "/turnmill/api/overview", "/metrics")


@pytest.fixture
def postgres(home: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(home, port=0, fsync=False) as server:
        migrate.upgrade(server.url)
        yield server


@contextmanager
def looking(postgres: EmbeddedPostgres, broker_url: str, log: Path, port: int) -> Iterator[Visitor]:
    viewer = viewer_of(postgres.url, postgres.url)
    with flower(
        database_url=postgres.url, viewer_url=viewer, broker_url=broker_url, log=log, port=port
    ) as visitor:
        yield visitor


def dead_ones(visitor: Visitor) -> int | None:
    """Return how many dead turns the tab shows, where it has read them just now."""
    told = visitor.json("/turnmill/api/overview")
    fresh = told["main"]["fresh"] and told["ended"]["fresh"]
    return sum(one["turns"] for one in told["ended"]["value"]) if fresh else None


def slowest(visitor: Visitor) -> float:
    took = []
    for path in (*PAGES, "/healthcheck", "/workers"):
        began = time.monotonic()
        assert visitor.get(path).status == 200, path
        took.append(time.monotonic() - began)
    return max(took)


def test_a_database_that_is_frozen_or_away_makes_pages_old_and_never_slow(
    postgres: EmbeddedPostgres, valkey_server: EmbeddedValkey, tmp_path: Path
) -> None:
    with (
        Client(database_url=postgres.url) as client,
        looking(postgres, valkey_server.url, tmp_path / "log", ports.choose(0)) as visitor,
    ):
        dead_letters(client, postgres.url, sessions=3, each=1)
        assert wait_until(lambda: dead_ones(visitor) == 3, timeout=SOON)
        assert slowest(visitor) < AT_ONCE  # each was read once
        frozen = [postgres.pid, *_children(postgres.pid)]
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(6):
                assert slowest(visitor) < AT_ONCE
            page = visitor.get("/turnmill").words
            assert "as of" in page and "overloaded" in page
            assert "turnmill_board_up 0.0" in visitor.get("/metrics").text
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
        assert wait_until(lambda: dead_ones(visitor) == 3, timeout=SOON)
        postgres.kill()
        for _ in range(3):
            assert slowest(visitor) < AT_ONCE
        page = visitor.get("/turnmill").words
        assert "the database does not answer (store_unavailable)" in page and "overloaded" in page
        postgres.restart()
        run(
            postgres.url,
            "DELETE FROM turnmill.sessions WHERE id = (SELECT min(id::text)::uuid"
            " FROM turnmill.sessions)",
        )
        assert wait_until(lambda: dead_ones(visitor) == 2, timeout=SOON)
        assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_flower_that_was_killed_knows_all_of_it_at_once(
    postgres: EmbeddedPostgres, valkey_server: EmbeddedValkey, tmp_path: Path
) -> None:
    port = ports.choose(0)
    with Client(database_url=postgres.url) as client:
        dead_letters(client, postgres.url, sessions=2, each=2)
        for _ in range(2):
            with looking(postgres, valkey_server.url, tmp_path / "log", port) as visitor:
                assert wait_until(lambda: dead_ones(visitor) == 4, timeout=SOON)


def test_its_memory_is_flat_however_often_it_is_looked_at(
    postgres: EmbeddedPostgres, valkey_server: EmbeddedValkey, tmp_path: Path
) -> None:
    with (
        Client(database_url=postgres.url) as client,
        looking(postgres, valkey_server.url, tmp_path / "log", ports.choose(0)) as visitor,
    ):
        dead_letters(client, postgres.url, sessions=200, each=2)
        turns = [one.id for one in client.turns.list(limit=400)]
        look_at_each(visitor, turns)
        before = memory_of(visitor)
        for _ in range(3):
            look_at_each(visitor, turns)
        assert memory_of(visitor) < before * 1.1


def look_at_each(visitor: Visitor, turns: Sequence[object]) -> None:
    for turn in turns:
        assert visitor.get(f"/turnmill/turn/{turn}").status == 200


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(one) for one in found]
