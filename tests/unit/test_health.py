"""What `turnmill health` makes of what a worker or a beat has written down."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from turnmill import alive
from turnmill.alive import Sign, State
from turnmill.cli.commands.health import command
from turnmill.ownership import doubt_about
from turnmill.settings import Settings
from turnmill_worker.process.alive import Alive

NOBODY = 2**22 + 1  #: no process has a number like this


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TURNMILL_HOME", str(tmp_path))
    monkeypatch.delenv("TURNMILL_ALIVE_FILE", raising=False)
    alive.folder_of(tmp_path).mkdir()
    return tmp_path


def note(home: Path, *, program: str = "worker", number: int = 0, **changes: Any) -> Sign:
    """Write down what this very process would, with changes."""
    one = alive.sign(program, every=2.0, state=State.READY, says="consuming")
    one = dataclasses.replace(one, **changes)
    alive.write(alive.place_of(home, program, one.pid + number), one)
    return one


def asked(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(command, arguments, standalone_mode=False)
    assert done.exception is None, done.exception
    return int(done.return_value), done.output


@pytest.mark.parametrize(
    ("state", "is_ready"),
    [
        (State.READY, True),
        (State.STARTING, False),
        (State.WAITING, False),
        (State.STOPPING, False),
    ],
)
def test_all_that_run_are_alive_and_only_those_that_do_their_work_are_ready(
    home: Path, state: State, is_ready: bool
) -> None:
    note(home, state=state)
    assert asked("worker")[0] == (0 if is_ready else 1)
    assert asked("worker", "--ready")[0] == (0 if is_ready else 1)
    code, said = asked("worker", "--alive")
    assert (code, said) == (0, f"worker {os.getpid()}: {state}: consuming\n")


@pytest.mark.parametrize("age", [11.0, 3600.0, -5.0])
def test_one_that_stands_still_is_not_alive(home: Path, age: float) -> None:
    note(home, at=time.monotonic() - age)
    for option in ("--alive", "--ready"):
        code, said = asked("worker", option)
        assert code == 1 and "stands still" in said


@pytest.mark.parametrize("change", [{"pid": NOBODY}, {"born": "1"}])
def test_one_that_is_gone_does_not_live_even_if_another_has_its_number(
    home: Path, change: dict[str, Any]
) -> None:
    note(home, **change)
    code, said = asked("worker", "--alive")
    assert code == 1 and "none runs" in said and "gone" in said


def test_of_several_all_have_to_be_healthy_and_those_that_were_killed_do_not_count(
    home: Path,
) -> None:
    note(home)
    note(home, pid=NOBODY)
    assert asked("worker")[0] == 0
    note(home, number=1, state=State.WAITING, says="the database does not answer")
    code, said = asked("worker")
    assert code == 1 and "waiting: the database does not answer" in said


def test_a_beat_is_not_taken_for_a_worker(home: Path) -> None:
    note(home, program="beat")
    assert (asked("beat")[0], asked("worker")[0]) == (0, 1)


def test_the_file_that_is_named_is_asked_and_no_other(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(home)
    named = tmp_path / "named"
    monkeypatch.setenv("TURNMILL_ALIVE_FILE", str(named))
    assert asked("worker")[0] == 1
    alive.write(named, note(home))
    assert asked("worker")[0] == 0


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"pid": "x"}', "\x00", '"\ud800"'])
def test_what_cannot_be_understood_is_nobodys(home: Path, text: str) -> None:
    place = alive.place_of(home, "worker", 1)
    place.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert asked("worker")[0] == 1


def test_a_home_that_a_worker_makes_is_one_that_others_cannot_write(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        alive.make_room(tmp_path / "new", "worker")
    finally:
        os.umask(before)
    assert doubt_about(alive.folder_of(tmp_path / "new")) == ""
    assert doubt_about(tmp_path / "new") == ""


def test_a_fifo_in_the_place_of_a_note_is_not_waited_for(home: Path) -> None:
    os.mkfifo(alive.place_of(home, "worker", 1))
    assert asked("worker")[0] == 1


def test_a_word_that_would_drive_a_terminal_does_not_reach_it(home: Path) -> None:
    note(home, says="\x1b[2Jready\n\r\x07")
    assert asked("worker")[1].isascii() and "\x1b" not in asked("worker")[1]


def test_what_killed_processes_left_is_removed_by_the_next_one(home: Path) -> None:
    note(home, pid=NOBODY)
    alive.make_room(home, "worker")
    assert list(alive.folder_of(home).iterdir()) == []


def test_asking_loads_neither_celery_nor_a_client_of_any_server(home: Path) -> None:
    note(home)
    code = (
        "import sys\nfrom turnmill.cli import main\nsys.argv = ['turnmill', 'health', 'worker']\n"
        "try:\n    main()\nfinally:\n    import json; print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    heavy = {"celery", "kombu", "sqlalchemy", "psycopg", "redis", "rich", "asyncio", "ssl"}
    assert not heavy & loaded


def test_a_worker_that_starts_says_again_and_again_whether_it_is_ready_and_then_now_and_then(
    home: Path,
) -> None:
    pauses: list[float] = []

    class Loop:
        def call_later(self, pause: float, *_: object) -> None:
            pauses.append(pause)

    states = iter([State.STARTING, State.READY, State.WAITING])
    noting = Alive(Settings(home=home), lambda: (next(states), "so"))
    for expected in (State.STARTING, State.READY, State.WAITING):
        noting.start(Loop())  # type: ignore[arg-type]
        assert [one.state for one in alive.signs(home, "worker")] == [expected]
    assert pauses == [0.1, 2.0, 2.0]
