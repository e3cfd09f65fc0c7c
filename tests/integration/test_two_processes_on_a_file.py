"""Two processes on one SQLite file: one runs its turns, the other takes over when that one ends."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from turnmill import Client, Settings
from turnmill.testing import script
from turnmill_worker.process.elected import Elected
from turnmill_worker.providers.mock.executions import Executions
from turnmill_worker.stack.process import wait_until

SOON = timedelta(seconds=30)

#: Runs turns until its stdin is closed.
_PROGRAM = """
import sys
from turnmill import Client
with Client(database_url=sys.argv[1]) as client:
    session = client.sessions.create(user_id="bob")
    client.send(session, "first").result(timeout=30)
    print("running", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/turns.db"


@pytest.fixture
def other(url: str, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, url],
        env={**os.environ, "TURNMILL_MOCK_LEDGER": str(tmp_path / "theirs")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    yield process
    process.kill()
    process.communicate(timeout=30)


def test_turns_of_both_are_run_by_the_first_and_after_its_death_by_the_second(
    url: str, other: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNMILL_MOCK_LEDGER", str(tmp_path / "ours"))
    theirs, ours = Executions(tmp_path / "theirs"), Executions(tmp_path / "ours")
    settings = Settings(database_url=url, grace=timedelta(seconds=0.1))
    with Client(settings=settings) as client:
        session = client.sessions.create(user_id="ada")
        turns = [client.send(session, f"message {n}") for n in range(3)]
        hanging = client.send(session, "hang", metadata=script(faults="hang"))
        for turn in turns:
            turn.result(timeout=30)
            assert [one.n for one in turn.attempts()] == [1]
        assert wait_until(lambda: bool(theirs.calls_of(hanging.id)), timeout=SOON)
        assert not ours.calls()

        other.kill()
        assert wait_until(lambda: bool(ours.calls_of(hanging.id)), timeout=SOON)
        assert client.send(client.sessions.create(user_id="eve"), "Hi").result(timeout=30).text
        assert {call.turn_id for call in ours.calls()}.isdisjoint(turn.id for turn in turns)


def test_a_lock_is_held_by_one_and_passes_on_when_it_is_given_back(tmp_path: Path) -> None:
    first, second = (Elected(str(tmp_path / "turns.db")) for _ in range(2))
    assert first.wins()
    assert first.wins()
    assert not second.wins()
    first.give_back()
    assert second.wins()
    assert not first.wins()
    second.give_back()


def test_a_child_that_was_forked_does_not_hold_its_parents_lock(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _FORKS, str(tmp_path)], check=True, timeout=60)


#: The parent gives the lock back while its child lives; another one wins it then.
_FORKS = """
import os, sys
from turnmill_worker.process.elected import Elected
first, second = (Elected(sys.argv[1] + "/other.db") for _ in range(2))
assert first.wins()
told, tell = os.pipe()
asked, ask = os.pipe()
child = os.fork()
if child == 0:
    os.write(tell, b"1")
    os.close(ask)
    os.read(asked, 1)
    os._exit(0)
os.read(told, 1)
first.give_back()
assert second.wins()
os.close(ask)
os.waitpid(child, 0)
"""
