"""What a newcomer meets: a system that is found, ids that can be typed, hints that help."""

import asyncio
import fcntl
import json
import os
import pickle
import pty
import re
import shlex
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.terminal import Terminal, clean_environment
from turnmill import AsyncClient, Client, InvalidInput, InvalidSetting, TurnmillError
from turnmill.domain.states import FINAL, TurnState
from turnmill.running_home import LOCK_FILE, READY_FILE


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/it's here.db"


@pytest.fixture
def home(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a folder in which a system runs, as far as its notes tell."""
    for name in [name for name in os.environ if name.startswith("TURNMILL_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    home = tmp_path / ".turnmill"
    home.mkdir(mode=0o700)
    (home / READY_FILE).write_text(json.dumps({"database_url": url, "broker_url": ""}))
    (home / READY_FILE).chmod(0o600)
    with (home / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield tmp_path


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(database_url=url) as client:
        yield client


@pytest.fixture
def there(tmp_path: Path, url: str) -> Terminal:
    return Terminal(tmp_path, {"TURNMILL_DATABASE_URL": url})


def test_both_clients_find_the_system_that_runs_in_the_folder(home: Path, url: str) -> None:
    with Client.from_env() as client:
        assert client.settings.database_url == url

    async def on_a_loop() -> str:
        async with AsyncClient.from_env() as client:
            return client.settings.database_url

    assert asyncio.run(on_a_loop()) == url


def test_what_the_environment_says_comes_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNMILL_DATABASE_URL", "sqlite://")
    with Client.from_env() as client:
        assert client.settings.database_url == "sqlite://"


def test_in_production_a_forgotten_url_is_no_reason_to_look_around(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNMILL_PROFILE", "production")
    monkeypatch.setenv("TURNMILL_ENCRYPTION", "off")
    with pytest.raises(InvalidSetting, match="no database URL"):
        Client.from_env()


def test_env_tells_a_shell_and_a_program_where_the_system_is(home: Path, url: str) -> None:
    here = Terminal(home, {})
    told = here.run("env", "--json").json()
    assert told["TURNMILL_DATABASE_URL"] == url
    lines = here.run("env").out.splitlines()
    assert f"export TURNMILL_DATABASE_URL={shlex.quote(url)}" in lines
    shell = f"{here.run('env').out}printenv TURNMILL_DATABASE_URL TURNMILL_HOME"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [url, str(home / ".turnmill")]


def test_env_says_what_to_do_where_there_is_none(tmp_path: Path) -> None:
    said = Terminal(tmp_path, {}).run("env")
    assert (said.code, said.out) == (1, "")
    assert "turnmill up" in said.err


def test_a_traceback_shows_the_hint_once() -> None:
    error = InvalidInput("limit is too large", hint="ask for pages")
    for one in (error, pickle.loads(pickle.dumps(error))):
        told = "".join(traceback.format_exception(one))
        assert told.count("hint: ask for pages") == 1
        assert str(one) == "limit is too large"


def test_advice_names_the_program_as_it_was_called(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("turnmill")
    env = clean_environment() | {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [program, "env"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    called = re.findall(r"`(\S*turnmill) up`", done.stderr)
    assert called == [str(program)]


def test_a_turn_is_found_by_as_much_of_its_id_as_a_listing_shows(
    client: Client, there: Terminal
) -> None:
    session = client.sessions.create(user_id="ada", key="deadbeef-k")
    turn = client.send(session, "Hello")
    turn.result(timeout=20)
    short = str(turn.id)[:18]
    assert str(turn.id) in there.run("turns", "show", short).out
    assert there.run("turns", "show", short.replace("-", "").upper()).code == 0
    assert str(session.id) in there.run("sessions", "show", str(session.id)[:18]).out
    assert "deadbeef-k" in there.run("sessions", "show", "deadbeef-k").out
    assert there.run("turns", "show", "00000000").code == 3
    assert there.run("sessions", "show", "00000000-").code == 3
    assert there.run("turns", "show", str(turn.id)[:7]).code == 1  # too little to look for


def test_the_beginning_of_several_ids_is_refused_with_those_that_it_may_mean(
    client: Client, there: Terminal
) -> None:
    client.sessions.create(user_id="ada", key="s")
    turns = client.send_many([("s", "one"), ("s", "two")])
    said = there.run("turns", "show", str(turns[0].id)[:8])
    assert said.code == 1
    assert all(str(turn.id) in said.err for turn in turns)


@pytest.mark.parametrize("prefix", ["", "0123", "0123456g", "01234567-8", "0" * 33, "0-1234567"])
def test_what_begins_no_id_is_refused(client: Client, prefix: str) -> None:
    accepted = {"01234567-8"}
    if prefix in accepted:
        assert client.turns.list(id_prefix=prefix) == []
        return
    with pytest.raises(InvalidInput):
        client.turns.list(id_prefix=prefix)


def test_turns_are_listed_and_cancelled_by_user_lane_state_and_age(
    client: Client, there: Terminal
) -> None:
    for user in ("ada", "bob"):
        client.sessions.create(user_id=user, key=user)
        client.sessions.pause(user)
        client.send(user, "for now")
        client.send(user, "for later", lane="bulk")
    listed = there.run("turns", "ls", "--user", "bob", "--lane", "bulk", "--json").lines()
    assert [one["lane"] for one in listed] == ["bulk"]
    assert there.run("turns", "ls", "--older", "1h", "--json").lines() == []
    assert len(there.run("turns", "ls", "--older", "0s", "--json").lines()) == 4
    assert there.run("turns", "ls", "--older", "soon").code == 2

    asked = there.run("turns", "cancel", "--all", "--user", "ada")
    assert (asked.code, asked.out) == (2, "")
    assert "Cancel 2 turns?" in asked.err
    there.run("turns", "cancel", "--all", "--user", "ada", "--yes")
    states = [(turn.record.state in FINAL) for turn in client.turns.list(user_id="ada")]
    assert states == [True, True]
    assert {turn.state for turn in client.turns.list(user_id="bob")} == {TurnState.QUEUED}


def test_turns_of_a_batch_are_listed_by_its_name(
    client: Client, there: Terminal, tmp_path: Path
) -> None:
    (tmp_path / "b.jsonl").write_text('{"text": "hi", "user_id": "ada"}\n' * 3)
    batch = client.batches.create(tmp_path / "b.jsonl", name="mine", provider="mock")
    assert len(client.turns.list(batch=batch)) == 3
    assert len(there.run("turns", "ls", "--batch", "mine", "--json").lines()) == 3
    assert there.run("turns", "ls", "--batch", "yours").code == 3
    short = str(batch.id)[:18]
    assert there.run("batch", "status", short, "--json").json()["id"] == str(batch.id)
    assert len(there.run("turns", "ls", "--batch", short, "--json").lines()) == 3
    assert there.run("batch", "ls", "--after", short, "--json").lines() == []
    assert there.run("batch", "status", "00000000").code == 3
    client.batches.create(tmp_path / "b.jsonl", name=short, provider="mock")
    assert there.run("batch", "status", short, "--json").json()["name"] == short


@pytest.mark.long
def test_who_breaks_off_waiting_is_told_that_the_turn_goes_on(tmp_path: Path, url: str) -> None:
    master, slave = pty.openpty()
    env = clean_environment() | {"TURNMILL_DATABASE_URL": url, "TURNMILL_MOCK_LATENCY": "30"}
    argv = [sys.executable, "-m", "turnmill.cli", "send", "Hello", "--user", "ada", "--wait"]
    with subprocess.Popen(argv, cwd=tmp_path, env=env, stdout=slave, stderr=slave) as waiting:
        os.close(slave)
        shown = _until(master, "waits for its reply")
        waiting.send_signal(signal.SIGINT)
        shown += _until(master, "turns cancel")
        assert waiting.wait(timeout=20) == 130
    os.close(master)
    found = re.search(r"turn (\S{36}) goes on", shown)
    assert found is not None
    with Client(database_url=url) as client:  # which may have run it by the time that we look
        assert client.turns.get(found[1]).state is not TurnState.CANCELLED


def _until(master: int, words: str) -> str:
    shown = ""
    while words not in shown:
        shown += os.read(master, 4096).decode(errors="replace")
    return shown


def test_an_error_of_ours_is_an_error_without_a_hint_too() -> None:
    assert not hasattr(TurnmillError("so it is"), "__notes__")
