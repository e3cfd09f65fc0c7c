"""A disk that is full ends nobody: words are lost, and who lives can say so."""

import errno
import logging
import os
import shelve
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from click.testing import CliRunner

from turnmill import alive
from turnmill.alive import State
from turnmill.cli.commands import beat, health
from turnmill_worker.celery.beat import TellingScheduler
from turnmill_worker.stack import fleet, logfile
from turnmill_worker.stack.fleet import Fleet
from turnmill_worker.stack.home import Home
from turnmill_worker.stack.process import Program
from turnmill_worker.stack.wakeup import Wakeup
from turnmill_worker.stack.watch import Patience

FULL = "/dev/full"
#: What Celery's programs do before they start, and plugins do at any time.
PROGRAM = """
import logging, sys
from turnmill_worker.celery.lossy import lose_what_cannot_be_written
old = sys.stdout
lose_what_cannot_be_written()
print("a banner", flush=True)
print("another", file=sys.__stdout__, flush=True)
print("x" * 100_000, file=sys.stderr)
logging.StreamHandler().emit(logging.makeLogRecord({"msg": "a line"}))
sys.stdout.write("é\\n")
sys.exit(old.fileno() - 1 + 7)
"""


def no_room(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.skipif(not Path(FULL).exists(), reason="there is no /dev/full")
def test_a_program_ends_as_it_means_to_though_nothing_that_it_says_can_be_written() -> None:
    with Path(FULL).open("wb") as full:
        argv = [sys.executable, "-W", "error", "-c", PROGRAM]
        assert (
            subprocess.run(argv, stdout=full, stderr=full, timeout=30, check=False).returncode == 7
        )


def test_a_program_whose_pipes_nobody_reads_goes_on() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    argv = [sys.executable, "-W", "error", "-c", PROGRAM]
    done = subprocess.run(argv, stdout=writing, stderr=writing, timeout=30, check=False)
    os.close(writing)
    assert done.returncode == 7


@pytest.mark.parametrize("options", [(), ("-u",)])
def test_what_can_be_written_is_written_as_before(options: tuple[str, ...]) -> None:
    argv = [sys.executable, *options, "-W", "error", "-c", PROGRAM]
    done = subprocess.run(argv, capture_output=True, timeout=30, check=False)
    assert done.stdout.decode() == "a banner\nanother\né\n"
    assert done.stderr.decode() == "x" * 100_000 + "\na line\n"


@pytest.mark.parametrize("place", ["beside", "instead"])
def test_who_lives_says_so_where_there_is_no_room_for_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    path = tmp_path / "worker-1.json"
    alive.write(path, alive.sign("worker", every=2.0, state=State.READY, says="consuming; " * 9))
    monkeypatch.setattr(Path, "write_bytes" if place == "beside" else "replace", no_room)
    later = alive.sign("worker", every=2.0, state=State.WAITING, says="the database is away")
    alive.write(path, later)
    assert alive.read(path) == later
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("state", State)
def test_who_begins_where_there_is_no_room_says_it_in_a_name_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: State
) -> None:
    path = tmp_path / "worker-1.json"
    one = alive.sign("worker", every=2.0, state=state, says="consuming")
    with monkeypatch.context() as full:
        full.setattr(Path, "write_bytes", no_room)
        for _ in range(2):
            alive.write(path, one)
            found = alive.read(path)
            assert found is not None
            assert (found.program, found.pid, found.born) == (one.program, one.pid, one.born)
            assert (found.state, found.says) == (state, "its disk is full")
            assert found.is_running and not found.silent_for
            assert [*tmp_path.iterdir()] == [path]
    alive.write(path, one)
    assert alive.read(path) == one and not path.is_symlink()


def test_what_it_says_in_a_name_is_never_longer_than_a_disk_keeps_without_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "write_bytes", no_room)
    path = tmp_path / "worker-1.json"
    numbers = {"pid": 4_194_304, "born": "9" * 11, "at": 999_999_999.9, "every": 10.0}
    long = alive.Sign(program="worker", state=State.STOPPING, says="x" * 99, **numbers)  # type: ignore[arg-type]
    alive.write(path, long)
    assert len(os.readlink(path)) <= 59


@pytest.mark.parametrize(
    "says", ["turnmill", "another worker 1 - 1 1 ready", "/etc/passwd", "a " * 7]
)
def test_a_name_that_is_no_sign_of_ours_says_nothing(tmp_path: Path, says: str) -> None:
    path = tmp_path / "worker-1.json"
    path.symlink_to(says)
    assert alive.signs(tmp_path, "worker") == []
    assert alive.read(path) is None


@pytest.mark.parametrize("program", ["worker", "beat"])
def test_a_probe_finds_who_began_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setenv("TURNMILL_HOME", str(tmp_path))
    monkeypatch.setattr(Path, "write_bytes", no_room)
    alive.make_room(tmp_path, program)
    one = alive.sign(program, every=2.0, state=State.READY)
    alive.write(alive.place_of(tmp_path, program, one.pid), one)
    done = CliRunner().invoke(health.command, [program])
    assert (done.exit_code, done.output) == (
        0,
        f"{program} {one.pid}: ready: its disk is full\n",
    )


def test_who_can_say_nothing_at_all_is_told_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "write_bytes", no_room)
    monkeypatch.setattr(Path, "symlink_to", no_room)
    with pytest.raises(OSError, match="No space left"):
        alive.write(tmp_path / "worker-1.json", alive.sign("worker", every=2.0, state=State.READY))


def scheduler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, schedule: Path | None = None
) -> TellingScheduler:
    monkeypatch.setenv("TURNMILL_HOME", str(tmp_path))
    app = Celery("test", broker="memory://", set_as_current=False)
    app.conf.beat_schedule = {"job": {"task": "job", "schedule": 60.0}}
    return TellingScheduler(app=app, schedule_filename=str(schedule or tmp_path / "schedule"))


def test_a_beat_that_cannot_note_what_it_has_sent_begins_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Path, "write_bytes", no_room)
    with caplog.at_level(logging.WARNING, "turnmill.beat"):
        found = scheduler(tmp_path, monkeypatch)
    assert "job" in found.schedule
    assert [one.getMessage() for one in caplog.records if one.name == "turnmill.beat"] == [
        f"when jobs were sent cannot be noted in {tmp_path / 'schedule'}: No space left on device;"
        " a beat that starts anew sends them again, and each runs once for its time"
    ]
    found.close()


def test_a_beat_begins_where_there_is_no_room_for_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun: list[str] = []
    monkeypatch.setattr(beat, "become", lambda _, arguments, **__: begun.extend(arguments))
    monkeypatch.setenv("TURNMILL_HOME", str(tmp_path))
    monkeypatch.setenv("TURNMILL_BROKER_URL", "redis://127.0.0.1/0")
    with monkeypatch.context() as full:
        full.setattr(Path, "mkdir", no_room)
        done = CliRunner().invoke(beat.command, [], standalone_mode=False)
        assert done.exception is None
        noted = tmp_path / "beat" / "schedule-of-beat"
        assert begun[0] == f"--schedule={noted}"
        with caplog.at_level(logging.WARNING, "turnmill.beat"):
            found = scheduler(tmp_path, monkeypatch, schedule=noted)
    assert "job" in found.schedule
    assert [one.levelname for one in caplog.records if one.name == "turnmill.beat"] == ["WARNING"]
    found.close()


def test_a_beat_whose_disk_fills_up_goes_on_and_notes_again_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = scheduler(tmp_path, monkeypatch)
    with monkeypatch.context() as full, caplog.at_level(logging.WARNING, "turnmill.beat"):
        full.setattr(shelve.Shelf, "__setitem__", no_room)
        found.schedule["job"].total_run_count = 4
        found._do_sync()
        found._do_sync()
    assert len([one for one in caplog.records if one.name == "turnmill.beat"]) == 1
    found._do_sync()
    found.close()
    again = scheduler(tmp_path, monkeypatch)
    assert again.schedule["job"].total_run_count == 4
    again.close()


def test_a_program_for_whose_log_there_is_no_room_runs_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logfile, "keep_small", no_room)
    with logfile.open_for_child(tmp_path / "worker1.log") as log:
        log.write(b"a line\n")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError):
        logfile.open_for_child(tmp_path / "nowhere" / "worker1.log")


@pytest.mark.long
def test_up_says_when_the_disk_of_its_logs_is_full_and_when_it_is_not_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_full = [False, True, True, False, False]
    looks = iter(is_full)
    said: list[str] = []
    monkeypatch.setattr(fleet, "_LOG_CHECK", timedelta(0))
    monkeypatch.setattr(logfile, "lacks_room", lambda _: next(looks))
    monkeypatch.setattr(Home, "remember", no_room)
    with Wakeup() as wakeup:
        running = Fleet(Home(tmp_path), wakeup, patience=Patience(), say=said.append)
        running.add(Idle(tmp_path))
        rounds = iter(range(1, 2 * len(is_full)))
        running.until(lambda: next(rounds) == 2 * len(is_full) - 1)
        running.stop(grace=timedelta(0))
    assert said == [
        f"the disk of {tmp_path / 'logs'} is full: what runs goes on, and nothing is logged until"
        " there is room",
        f"there is room on the disk of {tmp_path / 'logs'} again",
    ]


class Idle:
    """A part that does nothing, and is ready at once."""

    name = "idle"

    def __init__(self, home: Path) -> None:
        self._log = home / "idle.log"

    def program(self) -> Program:
        argv = (sys.executable, "-S", "-c", "import signal; signal.pause()")
        return Program(name=self.name, argv=argv, log=self._log)

    def is_ready(self) -> bool:
        return True

    def welcome(self) -> None:
        Home(self._log.parent).remember_port(self.name, 4711)


def test_health_says_why_nobody_says_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNMILL_HOME", str(tmp_path))
    monkeypatch.delenv("TURNMILL_ALIVE_FILE", raising=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))
    done = CliRunner().invoke(health.command, ["worker"], standalone_mode=False)
    assert done.return_value == 1
    assert "its disk is full, and who started since cannot say so" in done.output
