"""Data keys of before: dropped when nothing is sealed by them, and never before."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from tests.acceptance.terminal import Terminal
from turnmill import Client, InvalidInput, Settings
from turnmill.crypto.folder import FolderKeys
from turnmill.crypto.keyring import new_key
from turnmill.crypto.wanted import Owner
from turnmill.domain.idle import Retention
from turnmill.store.database import Database
from turnmill.store.encryption import keys_for
from turnmill.store.schema.tables import messages
from turnmill.store.upkeep.resealing import begin_anew, reseal
from turnmill.verbs import old_keys
from turnmill.verbs.old_keys import Dropped, OldKeys
from turnmill.verbs.sealing_files import FilesToSeal
from turnmill_worker.upkeep.jobs import Upkeep

ADA = Owner("ada")


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=database_url,
        encryption_keys=new_key("1"),
        key_store=str(tmp_path / "keys"),
        files_url=str(tmp_path / "files"),
        actor="eve",
    )


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    found = Database(settings.database_url, keys=keys_for(settings))
    yield found
    found.close()


@pytest.fixture
def a_day_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what was done just now be a day ago."""

    class Later:
        @staticmethod
        def now(_: object) -> datetime:
            return datetime.now(UTC) + timedelta(days=1, minutes=1)

    monkeypatch.setattr(old_keys, "datetime", Later)


def rotate(database: Database, *, anew: bool = True) -> None:
    """Give the user a new key, and seal anew what he has said."""
    assert database.keys is not None
    database.keys.rotate(ADA)
    if anew:
        database.run(begin_anew)
        while database.run(reseal):
            pass


def versions(settings: Settings) -> list[int]:
    return sorted(one.version for one in FolderKeys(Path(settings.key_store)).get(users=["ada"]))


def talk(client: Client) -> object:
    session = client.sessions.create(user_id="ada", provider="mock", model="m", system_prompt="be")
    client.send(session, "hello")
    return session


@pytest.mark.usefixtures("a_day_later")
def test_an_old_key_goes_when_all_was_sealed_anew_and_what_was_said_is_read(
    settings: Settings, database: Database
) -> None:
    with Client(settings=settings) as client:
        session = talk(client)
        rotate(database, anew=False)
        old = OldKeys(database, settings)
        assert old.count() == 1
        assert old.drop(actor="eve") == Dropped(dropped=0, used=1, young=0)
        database.run(begin_anew)
        while database.run(reseal):
            pass
        assert old.drop(actor="eve") == Dropped(dropped=1, used=0, young=0)
        assert versions(settings) == [2]
        assert client.sessions.get(session).system_prompt == "be"  # type: ignore[arg-type]
        (entry,) = client.audit.list(action="keys.dropped")
    assert (entry.actor, entry.figures) == ("eve", {"keys": 1})
    with Client(settings=settings) as fresh:
        assert [one.text for one in fresh.sessions.history(session)] == ["hello"]  # type: ignore[arg-type]


@pytest.mark.usefixtures("a_day_later")
def test_a_key_that_a_file_is_sealed_by_stays_until_the_file_is_sealed_anew(
    settings: Settings, database: Database
) -> None:
    with Client(settings=settings) as client:
        kept = client.attachments.put(b"words", user_id="ada")
        rotate(database)
        old = OldKeys(database, settings)
        assert old.drop(actor="eve") == Dropped(dropped=0, used=1, young=0)
        assert FilesToSeal(database, settings).seal(within=timedelta(minutes=1)) == 1
        assert old.drop(actor="eve").dropped == 1
        assert b"".join(client.attachments.open(kept)) == b"words"


@pytest.mark.usefixtures("a_day_later")
def test_a_value_that_could_not_be_sealed_anew_keeps_its_key(
    settings: Settings, database: Database
) -> None:
    with Client(settings=settings) as client:
        talk(client)
    with database.begin() as conn:  # of a row that was moved: nobody can open it
        conn.execute(update(messages).values(position=messages.c.position + 50))
    rotate(database)
    assert OldKeys(database, settings).drop(actor="eve").used == 1
    assert versions(settings) == [1, 2]


def test_a_key_that_was_rotated_just_now_is_not_looked_at(
    settings: Settings, database: Database
) -> None:
    with Client(settings=settings) as client:
        talk(client)
    rotate(database)
    old = OldKeys(database, settings)
    assert old.drop(actor="eve", older_than=timedelta(0)) == Dropped(dropped=0, used=0, young=1)


def test_nothing_is_dropped_where_nothing_is_encrypted(database_url: str) -> None:
    plain = Database(database_url)
    with pytest.raises(InvalidInput, match="nothing is encrypted"):
        OldKeys(plain, Settings(database_url=database_url))
    plain.close()


@pytest.mark.usefixtures("a_day_later")
@pytest.mark.parametrize(("days", "left"), [(None, [1, 2]), (1, [2]), (30, [1, 2])])
@pytest.mark.anyio
async def test_upkeep_drops_them_when_no_backup_needs_them(
    settings: Settings, database: Database, days: int | None, left: list[int]
) -> None:
    with Client(settings=settings) as client:
        talk(client)
    rotate(database)
    kept = None if days is None else timedelta(days=days)
    upkeep = Upkeep(
        database,
        lambda _: None,  # type: ignore[arg-type, return-value]
        retention=Retention(),
        settings=replace(settings, backups_kept=kept),
    )
    counts = await upkeep.purge(datetime.now(UTC).replace(second=0, microsecond=0))
    assert counts is not None
    assert counts["old_keys"] == 2 - len(left)
    assert versions(settings) == left


def test_by_hand_it_is_asked_for_and_said(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    with Client(settings=settings) as client:
        talk(client)
    rotate(database)
    terminal = Terminal(
        tmp_path,
        {
            "TURNMILL_DATABASE_URL": settings.database_url,
            "TURNMILL_ENCRYPTION_KEYS": settings.encryption_keys,
            "TURNMILL_KEY_STORE": settings.key_store,
            "TURNMILL_FILES_URL": settings.files_url,
        },
    )
    assert terminal.run("encryption", "drop-old").code == 2  # nobody can be asked here
    said = terminal.run("encryption", "drop-old", "--yes")
    assert said.code == 0
    assert "0 data keys dropped" in said.err + said.out
    assert "too lately" in said.err + said.out
    assert terminal.run("encryption", "drop-old", "--yes", "--json").json()["young"] == 1
