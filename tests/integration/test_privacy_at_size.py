"""Exports and erasures of users who have much: within bounds of memory and time, and complete."""

import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import psycopg
import pytest
from sqlalchemy import func, select

from tests import rows
from tests.acceptance.terminal import clean_environment
from turnmill import Client, Settings
from turnmill.store.nouns.user_archive import LEFT_OUT
from turnmill.store.schema.belongings import BELONGINGS, Goes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SESSIONS = 10_000
MESSAGES, FILES = 10_000, 200
#: Of a row, what becomes another's: each table as it is, for sessions that are made in one go.
_CLONED = {
    "sessions": "'id', m.session_id",
    "turns": "'id', m.turn_id, 'session_id', m.session_id",
    "messages": "'id', gen_random_uuid(), 'turn_id', m.turn_id, 'session_id', m.session_id",
    "attempts": "'turn_id', m.turn_id",
}
_WHICH = {"sessions": "id", "turns": "session_id", "messages": "session_id"}


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(database_url=database_url, home=tmp_path / "home")


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings=settings) as client:
        yield client


def clone(url: str, session: Any, turn: Any, *, times: int) -> None:
    """Let the user have so many sessions more like this one, which has one turn."""
    with psycopg.connect(url, options="-c search_path=turnmill,public") as connection:
        connection.execute(
            "CREATE TEMPORARY TABLE made AS SELECT gen_random_uuid() AS session_id,"
            f" gen_random_uuid() AS turn_id FROM generate_series(1, {times})"
        )
        for table, values in _CLONED.items():
            which = _WHICH.get(table, "turn_id")
            of = turn if which == "turn_id" else session
            connection.execute(
                f"INSERT INTO {table} SELECT (jsonb_populate_record(t,"
                f" jsonb_build_object({values}))).* FROM {table} t, made m"
                f" WHERE t.{which} = %s",
                [of],
            )


def test_ten_thousand_sessions_are_erased_within_a_minute(client: Client) -> None:
    store = client._executor.database
    for user in ("ada", "bob"):
        session = rows.start(store, user_id=user, system_prompt="Be brief.")
        turn = rows.send(store, session, "CANARY-4471 hello")
        rows.run(store, turn)
        url = store.url.render_as_string(hide_password=False).replace("+psycopg", "")
        clone(url, session, turn, times=SESSIONS - 1 if user == "ada" else 99)
    began, cpu = time.monotonic(), time.process_time()
    report = client.users.erase("ada", reason="asked")
    took = time.monotonic() - began
    tell(f"{took:.1f} s, {time.process_time() - cpu:.1f} s of CPU")
    assert report.rows["sessions"] == report.rows["turns"] == SESSIONS
    assert took <= 60
    with store.begin() as conn:
        for one in BELONGINGS:
            if one.goes in (Goes.BY_KEY, Goes.BY_NAME, Goes.WITH_USER):
                query = select(func.count()).select_from(one.table).where(one.of_user("ada"))
                assert conn.scalar(query) == 0, one.table.name
    assert len(client.sessions.list(user_id="bob", limit=500)) == 100


def tell(what: str) -> None:
    """Say a figure, for whoever runs this with -s."""
    load = Path("/proc/loadavg").read_text().strip()
    sys.stdout.write(f"{what}, load {load}\n")


def have_much(client: Client) -> None:
    """Let the user have 10,000 messages, and files."""
    history = [
        {"role": role, "content": f"{role} says {'some words ' * 20}{n}"}
        for n in range(25)
        for role in ("user", "assistant")
    ]
    for _ in range(MESSAGES // len(history)):
        client.sessions.create(user_id="ada", history=history)
    for n in range(FILES):
        client.attachments.put(b"%d " % n + b"x" * 100_000, user_id="ada")
    client.send(client.sessions.create(user_id="bob"), "somebody else's")


def exported(settings: Settings, path: Path) -> int:
    """Export by command, and return how much memory the process had at most, in bytes."""
    variables = {"TURNMILL_DATABASE_URL": settings.database_url, "TURNMILL_HOME": settings.home}
    program = (
        "import pathlib, runpy, sys\n"
        f"sys.argv = ['turnmill', 'users', 'export', 'ada', {str(path)!r}]\n"
        "try:\n    runpy.run_module('turnmill.cli', run_name='__main__')\n"
        "finally:\n"
        "    told = pathlib.Path('/proc/self/status').read_text()\n"
        "    print(told.partition('VmHWM:')[2].split()[0], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environment() | {name: str(value) for name, value in variables.items()},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stderr.split()[-1]) * 1024


def test_an_export_of_ten_thousand_messages_is_complete_and_takes_no_memory(
    client: Client, settings: Settings, tmp_path: Path
) -> None:
    have_much(client)
    used = exported(settings, tmp_path / "ada.zip")
    tell(f"{used / 1e6:.0f} MB at most")
    assert used < 100e6
    with zipfile.ZipFile(tmp_path / "ada.zip") as archive:
        told = json.loads(archive.read("schema.json"))
        with client._executor.database.begin() as conn:
            for one in BELONGINGS:
                if (name := one.table.name) in LEFT_OUT:
                    continue
                query = select(func.count()).select_from(one.table).where(one.of_user("ada"))
                check = jsonschema.Draft202012Validator(told["$defs"][name])
                found = [json.loads(line) for line in archive.read(f"{name}.jsonl").splitlines()]
                assert len(found) == conn.scalar(query), name
                assert all(check.is_valid(line) for line in found), name
                if name == "messages":
                    assert len(found) == MESSAGES
        assert sum(one.startswith("files/") for one in archive.namelist()) == FILES
