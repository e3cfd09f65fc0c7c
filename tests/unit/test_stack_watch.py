"""One part of the stack under supervision: real processes, tiny programs."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from turnmill_worker.celery import readiness
from turnmill_worker.stack import logfile
from turnmill_worker.stack.errors import DidNotStart
from turnmill_worker.stack.process import Child, Program, wait_until
from turnmill_worker.stack.watch import Patience, Watch

SOON = timedelta(seconds=10)
IMPATIENT = Patience(first_pause=timedelta(milliseconds=1), longest_pause=timedelta(milliseconds=1))

TELLS = (
    f"import os, signal; os.write(int(os.environ[{readiness.VARIABLE!r}]), b'\\n'); signal.pause()"
)
DIES = "import sys; print('no luck today'); sys.exit(3)"
NEVER_READY = "import signal; signal.pause()"


class ScriptPart:
    """A part whose program is a line of Python; `codes` are for the first runs, the last stays."""

    name = "script"

    def __init__(self, folder: Path, *codes: str) -> None:
        self.runs = 0
        self.welcomes = 0
        self._folder = folder
        self._codes = codes

    def program(self) -> Program:
        code = self._codes[min(self.runs, len(self._codes) - 1)]
        self.runs += 1
        return Program(
            name=self.name,
            argv=(sys.executable, "-S", "-c", code),
            log=self._folder / "script.log",
            tells_ready=True,
        )

    def is_ready(self) -> bool:
        return False

    def welcome(self) -> None:
        self.welcomes += 1


Watcher = Callable[..., Watch]


@pytest.fixture
def watching() -> Iterator[Watcher]:
    watches: list[Watch] = []

    def watch(
        part: ScriptPart,
        *,
        patience: Patience = IMPATIENT,
        say: Callable[[str], None] = lambda line: None,
    ) -> Watch:
        watches.append(Watch(part, patience=patience, on_start=lambda child: None, say=say))
        return watches[-1]

    yield watch
    for watched in watches:
        watched.end()


def look_until(watch: Watch, condition: Callable[[], bool]) -> None:
    def looked() -> bool:
        watch.look()
        return condition()

    assert wait_until(looked, timeout=SOON)


def test_a_part_is_ready_when_its_process_says_so(watching: Watcher, tmp_path: Path) -> None:
    part = ScriptPart(tmp_path, TELLS)
    watch = watching(part)

    look_until(watch, lambda: watch.ready)

    assert part.welcomes == 1


def test_a_part_that_dies_is_started_again(watching: Watcher, tmp_path: Path) -> None:
    part = ScriptPart(tmp_path, TELLS)
    watch = watching(part)
    look_until(watch, lambda: watch.ready)
    first = watch.pid
    assert first is not None

    os.kill(first, signal.SIGKILL)
    look_until(watch, lambda: watch.ready and watch.pid != first)

    assert part.runs == 2


def test_each_restart_is_said_with_its_cause_its_number_and_the_log(
    watching: Watcher, tmp_path: Path
) -> None:
    part = ScriptPart(tmp_path, DIES, NEVER_READY, TELLS, TELLS)
    patience = Patience(first_pause=timedelta(milliseconds=1), start=timedelta(milliseconds=500))
    said: list[str] = []
    watch = watching(part, patience=patience, say=said.append)
    look_until(watch, lambda: watch.ready)
    assert watch.pid is not None
    os.kill(watch.pid, signal.SIGKILL)
    look_until(watch, lambda: part.welcomes == 2)

    log = f"its log: {tmp_path / 'script.log'}"
    assert said == [
        f"script ended with exit code 3; starting it again (restart 1); {log}",
        f"script was not ready in time; starting it again (restart 2); {log}",
        f"script was ended by SIGKILL; starting it again (restart 3); {log}",
    ]


def test_after_five_deaths_in_a_row_a_part_is_given_up_and_its_log_is_shown(
    watching: Watcher, tmp_path: Path
) -> None:
    part = ScriptPart(tmp_path, DIES)
    watch = watching(part)

    with pytest.raises(DidNotStart, match="script died 5 times") as caught:
        look_until(watch, lambda: False)

    assert part.runs == 5
    assert "no luck today" in caught.value.log_tail


def test_a_log_that_says_nothing_since_its_disk_is_full_is_no_riddle(
    tmp_path: Path, watching: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logfile, "lacks_room", lambda _: True)
    said: list[str] = []
    watch = watching(ScriptPart(tmp_path, DIES), say=said.append)
    with pytest.raises(DidNotStart) as caught:
        look_until(watch, lambda: False)
    for line in (*said, caught.value.hint):
        assert "there is no room on the disk of its log: make some" in line


def test_being_ready_once_makes_the_deaths_before_it_forgotten(
    watching: Watcher, tmp_path: Path
) -> None:
    part = ScriptPart(tmp_path, DIES, DIES, DIES, DIES, TELLS, DIES, DIES, DIES, DIES, TELLS)
    watch = watching(part)
    look_until(watch, lambda: watch.ready)

    assert watch.pid is not None
    os.kill(watch.pid, signal.SIGKILL)
    look_until(watch, lambda: part.welcomes == 2)

    assert part.runs == 10


def test_a_part_that_does_not_become_ready_in_time_counts_as_dead(
    watching: Watcher, tmp_path: Path
) -> None:
    part = ScriptPart(tmp_path, NEVER_READY, TELLS)
    patience = Patience(first_pause=timedelta(milliseconds=1), start=timedelta(milliseconds=500))
    watch = watching(part, patience=patience)

    look_until(watch, lambda: watch.ready)

    assert part.runs == 2


def test_pauses_between_starts_double_up_to_a_bound() -> None:
    patience = Patience(first_pause=timedelta(seconds=1), longest_pause=timedelta(seconds=5))

    pauses = [patience.pause_after(deaths).total_seconds() for deaths in range(1, 6)]

    assert pauses == [1, 2, 4, 5, 5]


def test_what_a_child_left_in_its_session_is_killed_when_the_child_has_died(
    tmp_path: Path,
) -> None:
    leaves_one = (
        "import subprocess, sys; "
        "print(subprocess.Popen([sys.executable, '-S', '-c', 'import signal; signal.pause()']).pid)"
    )
    program = ScriptPart(tmp_path, leaves_one).program()
    child = Child.spawn(program)
    assert wait_until(lambda: child.poll() is not None, timeout=SOON)
    left = int(program.log.read_text())

    assert wait_until(lambda: not Path(f"/proc/{left}/cmdline").read_bytes(), timeout=SOON)
