"""Disks, pipes, locales and folders that are not as they should be: one line, and an exit code."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests import rows
from tests.acceptance.terminal import clean_environment
from turnmill.store.database import Database
from turnmill.store.line.accept import accept
from turnmill.store.schema import migrate

#: A shell's command line → its exit code, and what stderr has to tell ("" for: nothing at all).
QUICK = (
    ("$T turns ls >/dev/full", 1, "No space left on device [enospc]"),
    ("$T doctor >/dev/full 2>/dev/full", 1, ""),
    ("PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 LC_ALL=C $T sessions show k --text --json", 0, ""),
    ("$T batch results jobs -o /dev/full", 1, "No space left on device [enospc]"),
    ("$T turns ls <&- >&- 2>&-", 0, ""),
    ("$T turns ls --limit 1000 --json | head -n 1 >/dev/null", 0, ""),
)
SLOW = (
    ("$T nonsense 2>/dev/full", 2, ""),
    ("$T batch results jobs -o full/there.jsonl", 1, "full/there.jsonl [enotdir]"),
    ("$T batch results jobs -o /dev/stdout | head -n 0", 0, ""),
    (r"printf '\377\n' | $T send - --session k", 1, "surrogate"),
    (r"printf '\377\n' | PYTHONIOENCODING=utf-8 $T chat --session k", 1, "no utf-8 [unicode]"),
    (r'TURNMILL_DATABASE_URL="$(printf "postgresql://u:\377@127.0.0.1:1/d")" $T turns ls', 1, "["),
    ("mkdir gone; cd gone; rmdir ../gone; TURNMILL_DATABASE_URL= $T up", 1, "[enoent]"),
    ("TURNMILL_DATABASE_URL= TURNMILL_HOME=/proc/nope $T up", 1, "/proc/nope"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    url = f"sqlite:///{folder}/turns.db"
    migrate.upgrade(url)
    store = Database(url)
    session = rows.start(store, key="k")
    with store.begin() as conn:
        for text in ("händel 👩\u200d💻", *(f"message {n}" for n in range(300))):
            accept(conn, session, rows.say(text))
    store.close()
    (folder / "full").write_text("no folder")
    (folder / "jobs").write_text('{"user_id": "ada", "text": "hi"}\n')
    run("$T batch submit jobs --name jobs", folder)
    return folder


def run(line: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=clean_environment()
        | {
            "T": shlex.join([sys.executable, "-m", "turnmill.cli"]),
            "TURNMILL_DATABASE_URL": f"sqlite:///{folder}/turns.db",
        },
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("line", "code", "told"),
    [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
)
def test_what_a_disk_a_pipe_or_a_locale_does_is_a_line_and_an_exit_code(
    folder: Path, line: str, code: int, told: str
) -> None:
    done = run(line, folder)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "Exception ignored" not in done.stderr
    if told:
        assert told in done.stderr
        assert len(done.stderr.splitlines()) <= 3
    elif code == 0:
        assert "error" not in done.stderr


def test_json_stays_json_where_letters_are_missing(folder: Path) -> None:
    line = "PYTHONIOENCODING=ascii $T sessions show k --text --json"
    [message, *_] = json.loads(run(line, folder).stdout)["messages"]
    assert message["text"] == "händel 👩\u200d💻"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_takes_no_file_is_named(folder: Path) -> None:
    (folder / "closed").mkdir(mode=0o500)
    done = run("$T batch results jobs -o closed/out", folder)
    assert done.returncode == 1
    assert "[eacces]" in done.stderr
