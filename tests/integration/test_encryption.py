"""What was said is in no byte that is stored; a dump of before a key was forgotten is unread."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests import steps
from tests.conftest import fresh_database
from tests.keyed import in_a_file
from turnmill import Client, DataKeyMissing
from turnmill.domain.states import TurnState
from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill.store.encryption import keys_for
from turnmill.store.line.claim import claim as claim_turns
from turnmill.store.line.settle import settle
from turnmill.store.schema import migrate
from turnmill_worker.stack.postgres import EmbeddedPostgres

CANARY = "CANARY-e8d0"
USERS = ("ada", "bob", "eve")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    in_a_file(tmp_path / "keyring", "1")
    return Settings(
        home=tmp_path,
        files_url=str(tmp_path / "files"),
        encryption_keys=str(tmp_path / "keyring"),
        key_store=str(tmp_path / "wrapped"),
    )


def talk(url: str, settings: Settings) -> dict[str, str]:
    """Say the canary wherever users and operators can; return each user's session."""
    found: dict[str, str] = {}
    store = Database(url, keys=keys_for(settings))
    with Client(database_url=url, settings=settings) as client:
        client.templates.put("t", system_prompt=f"{CANARY} template", note=CANARY)
        client.webhooks.create(url="https://example.com/hook", events=["turn.succeeded"])
        for user in USERS:
            session = client.sessions.create(user_id=user, system_prompt=f"{CANARY} {user}")
            file = (f"{CANARY} file of {user}. " * 9000).encode()
            kept = client.attachments.put(file, user_id=user, name=f"{CANARY}.txt")
            assert b"".join(client.attachments.open(kept)) == file and kept.name == f"{CANARY}.txt"
            turn = client.send(session, f"{CANARY} hello", attachments=[kept])
            client.schedules.create(session, f"{CANARY} later", cron="0 9 * * *")
            failed = client.send(session, f"{CANARY} again", idempotency_key="k")
            for _ in range(8):  # what is claimed for the first time fetches its keys, and is again
                claims = store.run(claim_turns, [turn.id], owner="w", lease=steps.LEASE)
                if claims:
                    break
            done = steps.verdict(claims[0], TurnState.SUCCEEDED, reply=f"{CANARY} reply")
            store.run(settle, [done])
            (claim,) = store.run(claim_turns, [failed.id], owner="w", lease=steps.LEASE)
            ends = steps.verdict(claim, TurnState.FAILED, error_detail=f"{CANARY} vendor")
            store.run(settle, [ends])
            found[user] = str(session.id)
    store.close()
    return found


def files_with(canary: bytes, folder: Path) -> list[Path]:
    return [one for one in folder.rglob("*") if one.is_file() and canary in one.read_bytes()]


@pytest.fixture
def template(postgres_server: EmbeddedPostgres) -> Iterator[tuple[str, str]]:
    """A database that can be copied while nobody is connected to it."""
    with fresh_database(postgres_server) as url:
        migrate.upgrade(url)
        yield url, url.rpartition("/")[2].partition("?")[0]


def test_the_canary_is_in_no_file_of_the_server_nor_of_the_file_store(
    template: tuple[str, str], settings: Settings, postgres_server: EmbeddedPostgres
) -> None:
    url, _ = template
    sessions = talk(url, settings)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM")
        connection.execute("CHECKPOINT")
        (data,) = connection.execute("SHOW data_directory").fetchone() or ("",)
    assert Path(data).is_dir()
    for folder in (Path(data), settings.home):
        assert files_with(CANARY.encode(), folder) == []
    with Client(database_url=url, settings=settings) as client:
        for user, session in sessions.items():
            said = [one.text for one in client.sessions.history(session)]
            assert said[:2] == [f"{CANARY} hello", f"{CANARY} reply"]
            assert client.sessions.get(session).system_prompt == f"{CANARY} {user}"


def test_a_dump_of_before_is_not_read_for_who_was_forgotten_and_is_for_others(
    template: tuple[str, str], settings: Settings, postgres_server: EmbeddedPostgres
) -> None:
    url, name = template
    sessions = talk(url, settings)
    keys = keys_for(settings)
    assert keys is not None
    with fresh_database(postgres_server, name) as dump:
        forgotten = keys.forget("ada")
        assert (forgotten.backups, forgotten.keys > 0) == ("shredded", True)
        for database in (dump, url):
            with Client(database_url=database, settings=settings) as client:
                for user, session in sessions.items():
                    if user != "ada":
                        assert len(list(client.sessions.history(session))) == 3
                        continue
                    with pytest.raises(DataKeyMissing):
                        list(client.sessions.history(session))
                    with pytest.raises(DataKeyMissing):
                        client.sessions.get(session)
                    with pytest.raises(DataKeyMissing):
                        client.attachments.list(user_id="ada")
