"""`turnmill demo`: it shows what it says, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from tests.acceptance.terminal import Terminal, clean_environment
from turnmill.cli.commands.demo import command
from turnmill_worker.stack.demo_chapters import _CHAPTERS
from turnmill_worker.stack.process import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")

DEMO = (sys.executable, "-m", "turnmill.cli", "demo")
STOPPED_WITHIN = timedelta(seconds=20)


@contextmanager
def demo(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Run a demo whose home is made in `folder`; what is left of it is killed."""
    process = subprocess.Popen(
        [*DEMO, *options],
        env=clean_environment() | {"TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        for pid in started_in(folder):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def started_in(folder: Path) -> list[int]:
    """Return the processes that were told of the folder by their environment or arguments."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
        if str(folder).encode() in told and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


def test_its_help_names_every_chapter() -> None:
    told = (command.help or "").casefold()
    assert not [title for title, _ in _CHAPTERS if title.casefold() not in told]


@pytest.mark.slow
def test_it_shows_conversations_both_accidents_and_where_the_time_went_and_leaves_nothing(
    home: Path,
) -> None:
    with demo(home) as process:
        out, err = process.communicate(timeout=200)
        left = started_in(home)

    assert process.returncode == 0, err
    for user in ("ada", "grace", "alan", "edsger", "barbara"):
        assert f"{user} and mock" in out
    assert "said: And where is the reply? [4 before]" in out
    assert "The turn of edsger that fails twice, then succeeds" in out
    assert "no reply: dead (overloaded)" in out
    assert "17 turns in" in out
    titles = ("Sessions", "Messages", "Storage", "Providers", "Lifecycle", "Middleware")
    duties = ("Money", "Batches", "Figures", "Privacy")
    for number, title in enumerate((*titles, "Streams", "Tools", *duties, "Flower"), 1):
        assert f"{number}. {title}\n   " in out
    assert "False" not in out
    assert "none spent on waiting" in out and "not sent: budget_exceeded" in out
    assert "20 results, by their lines, in a file" in out
    assert "columns, found in 0" in out
    assert "16 succeeded, 1 dead; 21 attempts" in out
    assert "Flower   http://turnmill:" in out
    assert '-m turnmill.cli send "Hello" --wait' in out  # as this one was called
    assert (left, list(home.iterdir())) == ([], [])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process_and_no_home(
    home: Path, number: signal.Signals
) -> None:
    with demo(home) as process:
        assert process.stderr is not None
        assert "starting" in process.stderr.readline()
        process.send_signal(number)
        process.communicate(timeout=STOPPED_WITHIN.total_seconds())
        left = started_in(home)

    assert process.returncode == 130
    assert (left, list(home.iterdir())) == ([], [])


@pytest.mark.slow
def test_a_kept_demo_goes_on_answering_until_it_is_stopped(home: Path) -> None:
    with demo(home, "--keep", "--json") as process:
        out, err = process.communicate(timeout=200)
        told = json.loads(out)
        there = Terminal(home, {"TURNMILL_HOME": told["home"]})
        said = there.run("send", "Are you still there?", "--wait", "--timeout", "30")
        os.kill(told["pid"], signal.SIGTERM)
        assert wait_until(lambda: started_in(home) == [], timeout=STOPPED_WITHIN)

    assert (process.returncode, said.code) == (0, 0), err
    assert told["chapters"].keys() >= {"sessions", "lifecycle", "middleware", "flower"}
    assert told["tab_url"].endswith("/turnmill")
    states = [turn["state"] for turn in told["turns"]]
    assert (states.count("succeeded"), states.count("dead")) == (16, 1)
    accidents = {turn["accident"]: turn for turn in told["turns"] if turn["accident"]}
    assert [
        [attempt["error_code"] for attempt in turn["attempts"]] for turn in accidents.values()
    ] == [["rate_limited", "overloaded", None], ["overloaded"] * 3]
