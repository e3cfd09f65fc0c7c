"""What an operator does by a command is written down: each command, or it is said why it is not."""

import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert

from tests import rows, stepping, steps
from tests.acceptance.commands_by_deed import ELSEWHERE, NOT_WRITTEN, SHOWING, WRITTEN
from tests.acceptance.terminal import Terminal
from tests.commands import leaves
from tests.keyed import in_a_file
from turnmill import Client, Settings
from turnmill.cli import cli
from turnmill.domain.auditing import Action
from turnmill.domain.ids import TurnId
from turnmill.domain.states import ToolCallState, TurnState
from turnmill.store.database import Database
from turnmill.store.nouns.accounts import ACCOUNT, AccountKey, close
from turnmill.store.schema.event_tables import event_readers


def test_of_every_command_it_is_said_whether_it_is_written_down_and_why_not() -> None:
    commands = set(leaves(cli))
    acting = {
        next(one for one in commands if f"{line} ".startswith(f"{one} ")) for line, _ in WRITTEN
    }
    said = (acting, {*ELSEWHERE}, {*NOT_WRITTEN}, SHOWING)
    assert sum(map(len, said)) == len(set().union(*said)), "some are told twice"
    assert set().union(*said) == commands
    actions = {action for _, action in WRITTEN} | {*ELSEWHERE.values()}
    # What else there is, readers and upkeep do.
    assert {*Action} - actions == {Action.CONTENT_READ, Action.AUDIT_PURGED}


def failed(store: Database) -> TurnId:
    turn = steps.send(store, rows.start(store, user_id="ada")).turn_id
    fail(store, turn)
    return turn


def fail(store: Database, turn: TurnId) -> None:
    steps.end(store, steps.take_one(store, turn), TurnState.FAILED, error_code="x")


def asking(store: Database) -> TurnId:
    """Return a turn that waits for an operator's word, thrice."""
    turn = steps.send(store, rows.start(store, user_id="ada")).turn_id
    claim = steps.take_one(store, turn)
    states = (ToolCallState.APPROVAL, ToolCallState.APPROVAL, ToolCallState.CALLER)
    calls = [stepping.new_call(n, state=state) for n, state in enumerate(states)]
    stepping.wait(store, stepping.call(store, claim, *calls))
    return turn


@pytest.fixture
def terminal(tmp_path: Path, database_url: str) -> Terminal:
    in_a_file(tmp_path / "keyring", "1")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/t.yaml").write_text("model: larger\n", encoding="utf-8")
    jobs = '{"user_id": "bob", "text": "hi"}\n{"user_id": "cem", "text": "hi"}\n'
    (tmp_path / "jobs").write_text(jobs, encoding="utf-8")
    (tmp_path / "prices.json").write_text('{"mock/*": {"input": 1, "output": 1}}')
    return Terminal(
        tmp_path,
        {
            "TURNMILL_DATABASE_URL": database_url,
            "TURNMILL_ACTOR": "eve",
            "TURNMILL_HOME": str(tmp_path / "home"),
            "TURNMILL_ENCRYPTION_KEYS": str(tmp_path / "keyring"),
            "TURNMILL_PRICES": str(tmp_path / "prices.json"),
        },
    )


@pytest.fixture
def named(terminal: Terminal) -> dict[str, str]:
    """Let there be something for every command to act upon; it was written plain."""
    url, home = terminal.environment["TURNMILL_DATABASE_URL"], terminal.folder / "home"
    store = Database(url)
    session = rows.start(store, user_id="ada", key="s")
    done = steps.send(store, session).turn_id
    steps.answer(store, done)
    steps.answer(store, steps.send(store, rows.start(store, user_id="bob")).turn_id)
    held = steps.send(store, rows.start(store, user_id="ada", on_ambiguous="hold")).turn_id
    steps.end(store, steps.take_one(store, held), TurnState.UNKNOWN)
    found = {
        "session": str(session),
        "done": str(done),
        "held": str(held),
        "failed": str(failed(store)),
        "asked": str(asking(store)),
        "queued": str(steps.send(store, rows.start(store, user_id="ada")).turn_id),
        "today": datetime.now(UTC).date().isoformat(),
    }
    with Client(settings=Settings(database_url=url, home=home)) as client:
        found["file"] = str(client.attachments.put(b"words", user_id="ada").id)
        batch = client.batches.create(terminal.folder / "jobs", name="b")
        found["batch"] = str(batch.id)
        fail(store, client.turns.list(batch=batch, user_id="cem")[0].id)
        found["schedule"] = str(client.schedules.create(session, "hi", cron="@yearly").id)
        for name, model in (("t", "small"), ("t", "large"), ("unused", "m")):
            client.templates.put(name, model=model)
        hook = client.webhooks.create(url="https://a.example/", events=["turn.settled"])
        found["webhook"] = str(hook.id)
        client.events.add_reader("one")
    with store.begin() as conn:
        conn.execute(insert(event_readers).values(name="observer:seen", place=0, parked=True))
        key = AccountKey(kind=ACCOUNT, provider="mock")
        close(conn, key, wait=lambda _: timedelta(seconds=9), code="rate_limited")
    store.close()
    return found


@pytest.mark.long
def test_each_command_that_acts_is_written_down_with_who_did_it(
    terminal: Terminal, named: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody else holds keys here, who would have to hear of new ones for long.
    monkeypatch.setattr("turnmill.crypto.data_keys.HELD_SECONDS", 1.0)
    with Client(database_url=terminal.environment["TURNMILL_DATABASE_URL"]) as client:
        last = 0
        for line, action in WRITTEN:
            said = terminal.run(*shlex.split(line.format(**named)))
            finds = line.startswith("users verify-erasure")
            assert said.code == int(finds), (line, said.err)
            new = [one for one in client.audit.list() if one.id > last]
            assert action in {one.action for one in new}, (line, new)
            assert {one.actor for one in new} == {"eve"}, line
            last = max(one.id for one in new)
        assert client.audit.verify().ok
