"""A canary in every field and file of three users: when one is erased, no byte anywhere says it."""

import json
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, String, cast, insert, select

from tests import stepping, steps
from tests.conftest import fresh_database
from tests.keyed import AtHand, in_a_file
from turnmill import Client, DataKeyMissing, SessionRecord
from turnmill.domain.analytics.judging import TrialState
from turnmill.domain.states import BackupState, CompactionKind, ToolCallState, TurnState
from turnmill.new_ids import new_id
from turnmill.settings import Settings
from turnmill.store.compaction_records import NewCompaction
from turnmill.store.database import Database
from turnmill.store.encryption import key_store, kms
from turnmill.store.line.compactions import keep_compaction
from turnmill.store.nouns import batch_feeding
from turnmill.store.rules.sealing import sealed_of_house, settings_of_house
from turnmill.store.schema import migrate
from turnmill.store.schema.secrecy import BY_CHOICE, CONTENT
from turnmill.store.schema.topic_tables import topics
from turnmill.store.schema.trial_tables import trials
from turnmill_worker.stack.binaries import find_postgres
from turnmill_worker.stack.postgres import EmbeddedPostgres

pytestmark = pytest.mark.long

CANARY = "CANARY-90ff"
USERS = ("ada", "bob", "eve")


@pytest.fixture
def settings(tmp_path: Path, postgres_server: EmbeddedPostgres) -> Iterator[Settings]:
    in_a_file(tmp_path / "keyring", "1")
    with fresh_database(postgres_server) as url:
        migrate.upgrade(url)
        yield Settings(
            database_url=url,
            home=tmp_path / "home",
            files_url=str(tmp_path / "files"),
            encryption_keys=str(tmp_path / "keyring"),
            key_store=str(tmp_path / "wrapped"),
            encrypt_metadata=True,
            encrypt_settings=True,
        )


@pytest.fixture
def store(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    # Of a batch one line is a turn, and the others are lines yet.
    monkeypatch.setattr(batch_feeding.feed, "__kwdefaults__", {"limit": 1, "window": 1})
    keys = AtHand(key_store(settings), kms(settings))
    keys.plain_metadata, keys.seals_settings = frozenset(), True
    found = Database(settings.database_url, keys=keys)
    yield found
    found.close()


def say_it_everywhere(client: Client, store: Database, user: str, folder: Path) -> None:
    """Let there be something that the user has said, or was told, in every column of content."""
    said = {"note": f"{CANARY} {user}"}
    session = client.sessions.create(
        user_id=user, system_prompt=f"{CANARY} {user}", metadata=said, settings=settings_of(user)
    )
    file = (f"{CANARY} file of {user}. " * 9000).encode()
    kept = client.attachments.put(file, user_id=user, name=f"{CANARY}.txt")
    turn = client.send(session, f"{CANARY} hello", attachments=[kept], metadata=said)
    steps.end(store, steps.take_one(store, turn.id), reply=f"{CANARY} reply")
    client.turns.feedback(turn.id, -1, f"{CANARY} comment")
    client.schedules.create(session, f"{CANARY} later", cron="0 9 * * *", metadata=said)
    be_asked(client, store, session)
    failed = client.send(client.sessions.create(user_id=user), f"{CANARY} again")
    claim = steps.take_one(store, failed.id)
    steps.end(store, claim, TurnState.FAILED, error_code="x", error_detail=f"{CANARY} vendor")
    client.sessions.participants.add(session, user)
    client.send(session, f"{CANARY} between us", sender=user, to="participants")
    say_it_in_a_batch(client, user, folder)


def settings_of(user: str) -> dict[str, Any]:
    """Return settings that say it in each of their corners."""
    target = {"provider": "mock", "model": "other", "settings": {"stop": [f"{CANARY} {user}"]}}
    schema = {"type": "object", "properties": {f"{CANARY} {user}": {"type": "string"}}}
    return {
        "instructions": f"{CANARY} {user}",
        "tools": [{"name": "ask", "description": f"{CANARY} tool", "parameters": schema}],
        "response_format": schema,
        "prompt": {"id": "pmpt_1", "variables": {"name": f"{CANARY} {user}"}},
        "fallback": [target],
        "max_tokens": f"{CANARY} {user}",
    }


def be_asked(client: Client, store: Database, session: SessionRecord) -> None:
    """Let a model summarise what was said, and call a tool that may not be run."""
    asked = client.send(session, f"{CANARY} asks")
    claim = steps.take_one(store, asked.id)
    made = NewCompaction(
        kind=CompactionKind.SUMMARISE, up_to_seq=1, turns=1, summary=f"{CANARY} summary"
    )
    with store.begin() as conn:
        assert keep_compaction(conn, claim, made)
    calls = [stepping.new_call(state=ToolCallState.APPROVAL)]
    stepping.wait(store, stepping.call(store, claim, *calls, reply=f"{CANARY} let me"))
    asked.reject("call_0", f"{CANARY} why")


def say_it_in_a_batch(client: Client, user: str, folder: Path) -> None:
    lines = folder / f"{user}.jsonl"
    line = {"user_id": user, "text": f"{CANARY} of a line", "settings": {"stop": [CANARY]}}
    lines.write_text(f"{json.dumps(line)}\n" * 2)
    client.batches.create(lines, name=f"of {user}", settings=settings_of(user)).pause()
    lines.unlink()


def say_it_in_the_house(client: Client, store: Database) -> None:
    client.templates.put(
        "t",
        system_prompt=f"{CANARY} template",
        note=CANARY,
        provider="mock",
        model="mock",
        settings=settings_of("nobody"),
    )
    client.experiments.start("t", settings=settings_of("nobody"), share=0.5)
    secret = "whsec_" + "Q0FOQVJZLTkwZmYtMTIzNDU2Nzg5MDEy"
    hook = client.webhooks.create(
        url="https://example.com/hook", events=["turn.succeeded"], secret=secret
    )
    client.webhooks.rotate(hook)
    with store.begin() as conn:
        words = sealed_of_house(conn, topics.c.words, "1", [[CANARY, 5]])
        conn.execute(insert(topics).values(id=1, words=words, first_run=1, last_run=1))
        conn.execute(insert(trials).values(trial_that_ended(conn)))


def trial_that_ended(conn: Connection) -> dict[str, Any]:
    """Return the row of a trial: nobody's turns are asked again for it."""
    trial = new_id()
    said = settings_of_house(conn, trials.c.settings, trial.hex, settings_of("nobody"))
    now = datetime.now(UTC)
    return {
        "id": trial,
        "name": "t",
        "state": TrialState.DONE,
        "batch_id": new_id(),
        "provider": "mock",
        "model": "mock",
        "settings": said,
        "sampled": 1,
        "since": now,
        "ended_at": now,
    }


def sealed_columns(store: Database) -> dict[str, int]:
    """Return how many sealed values each column holds that is to hold any."""
    found = {}
    with store.begin() as conn:
        for column in (*CONTENT, *BY_CHOICE):
            values = conn.scalars(select(cast(column, String)))
            name = f"{column.table}.{column.name}"
            found[name] = sum("tm1." in str(value) for value in values)
    return found


def tool(name: str, *arguments: str) -> bytes:
    argv = [str(find_postgres().path.with_name(name)), *arguments]
    return subprocess.run(argv, capture_output=True, check=True).stdout


def files_with(said: bytes, folder: Path) -> list[Path]:
    return [one for one in folder.rglob("*") if one.is_file() and said in one.read_bytes()]


def data_directory(url: str) -> Path:
    """Return where the server's files lie, with nothing left in them that can go."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM FULL")
        connection.execute("CHECKPOINT")
        (data,) = connection.execute("SHOW data_directory").fetchone() or ("",)
    assert Path(data).is_dir()
    return Path(data)


def read(client: Client, user: str) -> None:
    """Read what the user has in a store, to the last word."""
    found = client.sessions.list(user_id=user)
    said = {one.text for each in found for one in client.sessions.history(each)}
    assert {f"{CANARY} hello", f"{CANARY} reply", f"{CANARY} asks", f"{CANARY} again"} <= said
    assert {one.system_prompt for one in found} >= {f"{CANARY} {user}"}
    assert {"note": f"{CANARY} {user}"} in [one.metadata for one in found]
    assert settings_of(user) in [one.settings for one in found]
    assert client.batches.get(f"of {user}").record.settings == settings_of(user)
    (kept,) = client.attachments.list(user_id=user)
    assert kept.name == f"{CANARY}.txt"
    (talk,) = [one for one in found if one.system_prompt]
    assert client.schedules.list(session=talk)[0].parts[0].text == f"{CANARY} later"  # type: ignore[union-attr]
    assert client.sessions.compactions(talk)[0].summary == f"{CANARY} summary"
    assert b"".join(client.attachments.open(kept)).startswith(f"{CANARY} file of {user}".encode())


def assert_nowhere(settings: Settings, before: Path) -> None:
    """Look at every byte: of the server, of dumps of now and of before, of files and keys."""
    data = data_directory(settings.database_url)
    after = tool("pg_dump", "--no-owner", f"--dbname={settings.database_url}")
    # Who looks so finds what is there: names stand plain.
    assert b"bob" in after and b"ada" in before.read_bytes()
    assert files_with(b"turnmill", data)
    for said in (CANARY.encode(), CANARY.encode().hex().encode()):
        assert said not in after and said not in before.read_bytes()
        for place in (data, settings.home, Path(settings.files_url), Path(settings.key_store)):
            assert files_with(said, place) == []


def exported_settings(client: Client, user: str, to: Path) -> list[object]:
    """Return the settings of a user's sessions, as his archive has them."""
    client.users.export(user, to)
    with zipfile.ZipFile(to) as archive:
        (name,) = [one for one in archive.namelist() if Path(one).name == "sessions.jsonl"]
        return [json.loads(line)["settings"] for line in archive.read(name).splitlines()]


def assert_open_for_others_alone(settings: Settings, folder: Path) -> None:
    """Read a restored dump with all keys that there are: others are read, and she is not."""
    with Client(settings=settings) as client:
        for user in USERS[1:]:
            read(client, user)
            assert settings_of(user) in exported_settings(client, user, folder / f"{user}.zip")
        for look in (
            lambda: client.sessions.list(user_id="ada"),
            lambda: client.attachments.list(user_id="ada"),
            lambda: client.users.export("ada", folder / "ada.zip"),
        ):
            with pytest.raises(DataKeyMissing):
                look()


def test_of_an_erased_user_no_byte_is_read_from_anything_that_is_or_ever_was_stored(
    settings: Settings,
    store: Database,
    postgres_server: EmbeddedPostgres,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url, before = settings.database_url, tmp_path / "before.sql"
    folder = tmp_path / "given"
    folder.mkdir()
    with Client(settings=settings) as client:
        say_it_in_the_house(client, store)
        for user in USERS:
            say_it_everywhere(client, store, user, folder)
        found = sealed_columns(store)
        assert min(found.values()) > 0, found
        for user in USERS:
            read(client, user)
        before.write_bytes(tool("pg_dump", "--no-owner", f"--dbname={url}"))
        report = client.users.erase("ada", reason="asked")
        assert report.backups.state == BackupState.SHREDDED
        checked = client.users.verify_erasure("ada", words=[f"{CANARY} ada"])
        assert checked.remains == []
        with pytest.raises(Exception, match="erased"):
            client.sessions.create(user_id="ada")
    assert_nowhere(settings, before)
    assert CANARY not in caplog.text
    with fresh_database(postgres_server) as restored:
        tool("psql", "--quiet", f"--dbname={restored}", "--file", str(before))
        assert_open_for_others_alone(replace(settings, database_url=restored), tmp_path)
