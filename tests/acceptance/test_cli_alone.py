"""The command line without servers: an SQLite file, bad input, and what it refuses."""

import importlib.util
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from sqlalchemy import update

from tests import rows, steps
from tests.acceptance.terminal import Terminal
from turnmill.cli import COMMANDS, cli, main
from turnmill.store.database import Database
from turnmill.store.nouns import sessions
from turnmill.store.schema import migrate
from turnmill.store.schema.kept_tables import kept_refs
from turnmill.store.schema.revision import HEAD


@pytest.fixture
def alone(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path, {"TURNMILL_DATABASE_URL": f"sqlite:///{tmp_path}/turns.db"})


def test_help_loads_neither_sqlalchemy_nor_celery() -> None:
    code = (
        "import sys; sys.argv = ['turnmill', '--help']\n"
        "from turnmill.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'sqlalchemy', 'celery', 'kombu', 'rich', 'redis'} & set(sys.modules)\n"
        "sys.exit(','.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, alone: Terminal) -> None:
    said = alone.run(command, "--help")
    assert said.code == 0
    assert f"Usage: turnmill {command}" in said.out


def test_a_conversation_in_a_file_needs_no_server(alone: Terminal) -> None:
    first = alone.run("send", "one", "--session", "ada:x", "--user", "ada", "--wait")
    second = alone.run("send", "two", "--session", "ada:x", "--wait")
    shown = alone.run("sessions", "show", "ada:x", "--text", "--json").json()

    assert (first.code, second.code) == (0, 0)
    assert second.out.endswith("two [2 before]\n")
    assert [message["role"] for message in shown["messages"]] == ["user", "assistant"] * 2


def test_sessions_are_listed_paused_archived_and_deleted(alone: Terminal) -> None:
    alone.run("send", "one", "--session", "ada:x", "--user", "ada", "--wait")

    [session] = alone.run("sessions", "ls", "--user", "ada", "--json").lines()
    assert (session["key"], session["turns_succeeded"]) == ("ada:x", 1)
    for command, status in (("pause", "paused"), ("resume", "active"), ("archive", "archived")):
        assert alone.run("sessions", command, "ada:x", "--json").json()["status"] == status
    refused = alone.run("send", "two", "--session", "ada:x")
    assert (refused.code, "session_archived" in refused.err) == (1, True)
    assert alone.run("sessions", "delete", "ada:x", "--yes").code == 0
    assert alone.run("sessions", "show", "ada:x").code == 3


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("send", "hi", "--session", "nobody"), 3, "turnmill sessions ls"),
        (("turns", "show", "0190b2a4-0000-7000-8000-000000000000"), 3, "turnmill turns ls"),
        (("turns", "show", "no-id"), 1, "turnmill turns ls"),
        (("send", "", "--user", "ada"), 1, "invalid_text"),
        (("send", "hi", "--user", ""), 1, "user_id is empty"),  # a variable that was not set
        (("send", "hi", "--user", "ada", "--model", ""), 1, "model is empty"),
        (("send", "hi", "--provider", "openai"), 2, "--model"),
        (("turns", "retry"), 2, "--all"),
        (("queue", "pause"), 1, "name a lane or a provider"),
        (("queue", "pause", "--provider", "opneai"), 1, "--force"),
        (("send", "hi", "--user", "ada", "--wait", "--timeout", "nan"), 1, "timeout must be"),
        (("send", "hi", "--user", "ada", "--wait", "--timeout", "inf"), 1, "timeout must be"),
        (("send", "hi", "--user", "ada", "--idempotency-key", "k" * 300), 1, "idempotency_key"),
        (("send", "hi", "--session", "\ud800"), 1, "cannot be printed"),
        (("turns", "ls", "--limit", "1000000000000"), 2, "--limit"),
        (("nonsense",), 2, "No such command"),
        (("worker",), 1, "TURNMILL_BROKER_URL is not set"),
        (("worker",), 1, "SQLite needs no worker"),
        (("demo", "--provider", "openai"), 1, "set OPENAI_API_KEY"),
    ],
)
def test_an_error_is_a_line_a_next_step_and_an_exit_code(
    alone: Terminal, arguments: tuple[str, ...], code: int, told: str
) -> None:
    said = alone.run(*arguments)
    assert (said.code, said.out) == (code, "")
    assert told in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("database_url", "told"),
    [("", "TURNMILL_DATABASE_URL is not set"), ("mysql://host/name", "no store for mysql")],
)
def test_a_worker_without_a_store_is_told_what_its_database_lacks(
    tmp_path: Path, database_url: str, told: str
) -> None:
    said = Terminal(tmp_path, {"TURNMILL_DATABASE_URL": database_url}).run("worker")
    assert said.code == 1
    assert told in said.err
    assert "SQLite" not in said.err


def test_migrate_says_from_where_to_where_and_back(tmp_path: Path) -> None:
    alone = Terminal(tmp_path, {"TURNMILL_DATABASE_URL": f"sqlite:///{tmp_path}/new.db"})

    up = alone.run("migrate", "--json").json()
    again = alone.run("migrate")
    down = alone.run("migrate", "--downgrade", "base", "--yes", "--json").json()
    unknown = alone.run("migrate", "--revision", "9999")

    assert (up["from"], up["to"]) == (None, HEAD)
    assert "nothing to do" in again.out
    assert (down["from"], down["to"]) == (up["to"], None)
    assert (unknown.code, "Traceback" in unknown.err) == (1, False)
    assert "hint: 0001 to " in unknown.err


@pytest.mark.parametrize("revision", ["nope", "", "53", "-1"])
def test_nobody_is_asked_whether_to_go_back_to_what_is_no_revision(
    tmp_path: Path, revision: str
) -> None:
    alone = Terminal(tmp_path, {"TURNMILL_DATABASE_URL": f"sqlite:///{tmp_path}/new.db"})
    assert alone.run("migrate").code == 0
    for yes in ([], ["--yes"]):
        said = alone.run("migrate", f"--downgrade={revision}", *yes)
        assert (said.code, said.out) == (1, "")
        assert said.err.startswith(f"error: this version has no revision {revision!r} [invalid")
        assert "Traceback" not in said.err


@pytest.mark.parametrize("typed", ["", "y\n", "yes\n"])
def test_what_destroys_does_nothing_where_nobody_can_be_asked(alone: Terminal, typed: str) -> None:
    alone.run("send", "one", "--session", "ada:x", "--user", "ada")
    (alone.folder / "jobs.jsonl").write_text('{"user_id": "ada", "text": "hi"}\n')
    alone.run("batch", "submit", "jobs.jsonl", "--name", "jobs")

    for command, counted in (
        (("sessions", "delete", "ada:x"), "its 1 turn for"),
        (("batch", "cancel", "jobs"), " of batch jobs?"),
        (("migrate", "--downgrade", "base"), "2 sessions, 2 turns"),
        (("migrate", "--downgrade", "0001"), "2 sessions, 2 turns"),
    ):
        said = alone.run(*command, typed=typed)
        assert (said.code, said.out) == (2, "")
        assert "--yes" in said.err
        assert counted in said.err
    states = [turn["state"] for turn in alone.run("turns", "ls", "--json").lines()]
    assert len(states) == 2
    assert "cancelled" not in states


def test_every_command_whose_name_is_a_loss_can_be_told_yes_and_asks_otherwise() -> None:
    context = click.Context(cli)
    asking = set()
    for name in COMMANDS:
        group = cli.get_command(context, name)
        for below, command in getattr(group, "commands", {}).items():
            if below in {"delete", "remove", "purge", "discard", "forget", "reset", "drop"}:
                assert "yes" in {one.name for one in command.params}, f"{name} {below}"
                asking.add(f"{name} {below}")
    assert asking >= {"sessions delete", "events remove", "home remove"}


def test_doctor_says_what_is_missing_and_how_to_get_it(tmp_path: Path) -> None:
    said = Terminal(tmp_path, {}).run("doctor", "--json")

    wrong = {one["check"]: one for one in said.json()["findings"] if one["level"] == "wrong"}
    assert said.code == 11
    assert set(wrong) == {"database", "broker"}
    assert "turnmill up" in wrong["database"]["fix"]


def test_every_command_names_a_misspelt_variable_and_its_output_stays_as_it_is(
    alone: Terminal,
) -> None:
    slip = Terminal(alone.folder, {**alone.environment, "TURNMILL_CONCURENCY": "50"})
    for command in (("turns", "ls", "--json"), ("queue", "ls", "--json"), ("worker",)):
        said, plain = slip.run(*command), alone.run(*command)
        assert said.err.count("TURNMILL_CONCURENCY") == 1
        assert "is TURNMILL_CONCURRENCY meant?" in said.err
        assert (said.out, said.code) == (plain.out, plain.code)
    [finding] = [
        one
        for one in slip.run("doctor", "--json").json()["findings"]
        if "TURNMILL_CONCURENCY" in one["what"]
    ]
    assert (finding["check"], finding["level"]) == ("settings", "note")


def test_what_vendors_still_keep_is_shown_until_it_is_gone(alone: Terminal, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/turns.db"
    migrate.upgrade(url)
    store = Database(url)
    session = rows.start(store, provider="gone")
    steps.end(store, steps.take_one(store, rows.send(store, session)), provider_ref="resp_1")
    with store.begin() as conn:
        sessions.archive(conn, session)
        ago = datetime.now(UTC) - timedelta(hours=2)
        conn.execute(update(kept_refs).values(unwanted_at=ago, error_code="provider_unknown"))
    store.close()
    shown = alone.run("sessions", "show", str(session))
    doctor = alone.run("doctor", "--json").json()
    assert "keeps 1 answers or threads, to be deleted since 2 h ago" in " ".join(shown.out.split())
    [found] = [one for one in doctor["findings"] if one["check"] == "vendors"]
    assert found["level"] == "wrong"
    assert found["what"].startswith("gone: 1 answer still to be deleted there, the oldest for 2 h")
    assert found["what"].endswith("last refused with provider_unknown")


def test_doctor_asks_for_the_migration(
    postgres_server: Any, broker_url: str, tmp_path: Path
) -> None:
    environment = {
        "TURNMILL_DATABASE_URL": postgres_server.url_of("postgres"),
        "TURNMILL_BROKER_URL": broker_url,
    }
    said = Terminal(tmp_path, environment).run("doctor", "--json")

    fixes = {one["check"]: one["fix"] for one in said.json()["findings"] if one["level"] == "wrong"}
    assert said.code == 12
    assert fixes == {"schema": "turnmill migrate", "workers": "turnmill worker"}


def test_an_unintelligible_setting_is_a_finding_too(tmp_path: Path) -> None:
    said = Terminal(tmp_path, {"TURNMILL_LEASE": "soon"}).run("doctor", "--json")

    [finding] = said.json()["findings"]
    assert (said.code, finding["check"]) == (10, "settings")
    assert "TURNMILL_LEASE" in finding["what"]


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        ("worker", "aiohttp", "worker"),
        ("beat", "greenlet", "worker"),
        ("flower", "flower", "worker"),
        ("demo", "aiohttp", "worker"),
        ("up", "aiohttp", "all"),
    ],
)
def test_a_light_install_names_the_missing_extra(
    command: str,
    module: str,
    extra: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == module else find(name)
    )
    monkeypatch.setattr(sys, "argv", ["turnmill", command])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert f"missing: {module}" in said
    assert f"pip install 'turnmill[{extra}]'" in said
