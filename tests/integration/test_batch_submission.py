"""Submitting from processes that die and from several at once: each line once, in order."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from tests import rows
from tests.batch_clients import batches_of
from tests.crowd import until_blocked
from turnmill.domain.ids import BatchId, SessionId
from turnmill.store.database import Database
from turnmill.store.line.accept_many import accept_many
from turnmill.store.nouns import batch_reserving, sessions
from turnmill.store.records import NewTurn
from turnmill.store.upkeep.invariants import violations
from turnmill.sync.batches import Batch, Batches

LINES = 3000

SUBMIT = """
import sys
from pathlib import Path
from tests.batch_clients import batches_of
from turnmill.store.database import Database
from turnmill.sync.batches import Batches

begin = Batches._begun

def begun(self, submission):
    real = submission.stage
    def stage(batch_id, checked):
        print(checked.last, flush=True)
        sys.stdin.readline()  # goes on when the test says so
        return real(batch_id, checked)
    submission.stage = stage
    return begin(self, submission)

Batches._begun = begun
batches_of(Database(sys.argv[1])).create(Path(sys.argv[2]))
print("fed", flush=True)
"""


@pytest.fixture
def jobs_file(store: Database, tmp_path: Path) -> Path:
    for n in range(3):
        rows.start(store, key=f"shared-{n}")
    path = tmp_path / "jobs.jsonl"
    with path.open("w") as file:
        for n in range(LINES):
            where = {"session": f"shared-{n % 3}"} if n % 10 == 0 else {"user_id": f"user-{n}"}
            file.write(json.dumps(where | {"custom_id": f"{n}", "text": f"message {n}"}) + "\n")
    return path


def submitter(database_url: str, path: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", SUBMIT, database_url, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def assert_whole(store: Database, batches: Batches) -> None:
    (batch,) = batches.list()
    results = list(batch.iter_results())
    assert [result.custom_id for result in results] == [f"{n}" for n in range(LINES)]
    assert batch.counts.total == batch.counts.accepted == LINES
    with store.begin() as conn:
        found = conn.execute(text("SELECT count(*) FROM turnmill.sessions")).scalar_one()
        assert found == 3 + LINES * 9 // 10
        for n in range(3):
            shared = sessions.by_key(conn, f"shared-{n}")
            said = [int(one.text.split()[1]) for one in sessions.history(conn, shared.id)]
            assert said == sorted(said)
        assert violations(conn) == []


@pytest.mark.parametrize("chunks", [1, 2])
def test_a_submitter_killed_between_two_chunks_is_continued_by_the_next(
    store: Database, database_url: str, jobs_file: Path, chunks: int
) -> None:
    with submitter(database_url, jobs_file) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for chunk in range(1, chunks + 1):
            assert process.stdout.readline() == f"{1000 * chunk}\n"
            process.stdin.write("\n")
            process.stdin.flush()
        assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
    batches = batches_of(store)
    (half,) = batches.list()
    assert (half.record.last_line, half.counts.total) == (1000 * chunks, None)
    with store.begin() as conn:
        assert conn.execute(text("SELECT count(*) FROM turnmill.turns")).scalar_one() == 0
    batches.create(jobs_file)
    assert_whole(store, batches)


@pytest.mark.long
def test_a_submitter_killed_at_any_moment_loses_and_doubles_nothing(
    store: Database, database_url: str, jobs_file: Path
) -> None:
    draw = random.Random(7)
    batches = batches_of(store)
    for _ in range(4):
        with submitter(database_url, jobs_file) as process:
            assert process.stdin is not None
            process.stdin.write("\n" * 10)
            process.stdin.flush()
            deadline = time.monotonic() + draw.uniform(0.3, 1.2)
            while time.monotonic() < deadline and process.poll() is None:
                os.sched_yield()
            process.kill()
            process.wait(timeout=10)
    batches.create(jobs_file)
    assert_whole(store, batches)


def test_two_submitters_at_once_make_one_batch(store: Database, jobs_file: Path) -> None:
    batches = batches_of(store)
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda _: batches.create(jobs_file), range(3)))
    assert len({batch.id for batch in made}) == 1
    assert_whole(store, batches)


def test_two_who_read_the_same_at_once_and_give_it_no_name_make_one_batch(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, reserve, begun = batches_of(store), batch_reserving.reserve, list[BatchId]()
    content = b'{"user_id": "ada", "text": "hi"}\n' * 20
    second = ThreadPoolExecutor(1)

    def reserved(conn: Connection, batch_id: BatchId) -> None:
        begun.append(batch_id)
        if len(begun) == 1:  # it is being sealed: let the other one come to that, too
            others.append(second.submit(batches.create, BytesIO(content)))
            until_blocked(store)
        reserve(conn, batch_id)

    others = list[Future[Batch]]()
    monkeypatch.setattr(batch_reserving, "reserve", reserved)
    with second:
        first = batches.create(BytesIO(content))
        assert others[0].result(timeout=30).id == first.id
    assert [one.id for one in batches.list()] == [first.id]
    assert first.counts.total == 20


def test_many_acceptors_of_the_same_sessions_never_deadlock(store: Database) -> None:
    known = [rows.start(store, user_id=f"user-{n}") for n in range(20)]

    def accept_some(seed: int) -> int:
        draw = random.Random(seed)
        total = 0
        for _ in range(10):
            items: list[tuple[SessionId, NewTurn]] = [
                (session, rows.say()) for session in draw.choices(known, k=50)
            ]
            with store.begin() as conn:
                total += len(accept_many(conn, items))
        return total

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(accept_some, range(6))) == 3000
    with store.begin() as conn:
        assert sum(sessions.get(conn, one).unfinished for one in known) == 3000
        assert violations(conn) == []


def test_a_key_used_by_many_acceptors_at_once_makes_one_turn(store: Database) -> None:
    session = rows.start(store)

    def accept_key(_: int) -> tuple[object, bool]:
        items = [(session, rows.say("same", idempotency_key=f"key-{n}")) for n in range(10)]
        with store.begin() as conn:
            accepted = accept_many(conn, items)
        return tuple(one.turn_id for one in accepted), accepted[0].created

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(accept_key, range(16)))
    assert len({ids for ids, _ in answers}) == 1
    assert [created for _, created in answers].count(True) == 1
