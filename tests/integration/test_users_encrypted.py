"""Users whose content is encrypted: exported in words, and with their key gone for good."""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import steps
from tests.conftest import copy_database, run_as_superuser
from turnmill import Client, Settings, UserErased
from turnmill.cli.doctor.erasures import check_erasures
from turnmill.cli.doctor.findings import Examination
from turnmill.crypto.data_keys import DataKeys
from turnmill.crypto.keyring import new_key
from turnmill.domain.errors import DataKeyMissing
from turnmill.domain.states import BackupState, Lane, TurnState
from turnmill.store.database import Database
from turnmill.store.encryption import keys_for
from turnmill.store.line import claim as claiming
from turnmill.store.line.settle import settle
from turnmill.verbs.users import erasing
from turnmill_worker.stack.postgres import EmbeddedPostgres

pytestmark = pytest.mark.long

CANARY = "canary-51c0"


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=database_url,
        home=tmp_path / "home",
        encryption_keys=new_key("1"),
        key_store=str(tmp_path / "keys"),
    )


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings=settings) as client:
        yield client


def talk(client: Client, settings: Settings, user: str) -> None:
    """Have something said by a user, and answered by a worker that has the keys."""
    session = client.sessions.create(user_id=user, system_prompt=f"{CANARY} of {user}")
    file = f"{CANARY} in a file of {user}".encode()
    turn = client.send(session, f"{CANARY} said by {user}", attachments=[file])
    store = Database(settings.database_url, keys=keys_for(settings))
    options: dict[str, Any] = {"owner": "one", "lease": steps.LEASE, "lanes": list(Lane)}
    (claim,) = store.run(claiming.claim, [turn.id], **options)
    store.run(settle, [steps.verdict(claim, TurnState.SUCCEEDED)])
    store.close()


def keys_of(client: Client) -> DataKeys:
    keys = client._executor.database.keys
    assert keys is not None
    return keys


def backed_up(server: EmbeddedPostgres, settings: Settings) -> Settings:
    """Return the settings of a copy of the database as it is now; nobody is connected to it."""
    name = settings.database_url.rpartition("/")[2].partition("?")[0]
    # Nobody else may be connected, and those are who look whether it is as it was made.
    ends = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{}'"
    run_as_superuser(server, ends.format(name))
    copy_database(server, name, f"{name}_before")
    return replace(settings, database_url=server.url_of(f"{name}_before"))


def test_an_archive_of_what_is_encrypted_says_it_in_words(
    client: Client, settings: Settings, tmp_path: Path
) -> None:
    for user in ("ada", "bob"):
        talk(client, settings, user)
    made = client.users.export("ada", tmp_path / "ada.zip")
    assert (made.files, made.missing) == (1, [])
    with zipfile.ZipFile(tmp_path / "ada.zip") as archive:
        lines = [json.loads(line) for line in archive.read("messages.jsonl").splitlines()]
        (file,) = [name for name in archive.namelist() if name.startswith("files/")]
        assert archive.read(file) == f"{CANARY} in a file of ada".encode()
        (session,) = [json.loads(line) for line in archive.read("sessions.jsonl").splitlines()]
    assert lines[0]["content"][0] == {"type": "text", "text": f"{CANARY} said by ada"}
    assert session["system_prompt"] == f"{CANARY} of ada"


def test_who_is_erased_can_be_read_in_no_backup_and_others_can(
    client: Client, settings: Settings, tmp_path: Path
) -> None:
    for user in ("ada", "bob"):
        talk(client, settings, user)
    keys = keys_for(settings)
    assert keys is not None
    before = {user: keys.store.get(users=[user]) for user in ("ada", "bob")}
    report = client.users.erase("ada", reason="asked")
    assert report.backups.state == BackupState.SHREDDED
    assert client.users.erasure("ada").backups.state == BackupState.SHREDDED
    assert report.done
    assert keys.store.get(users=["ada"]) == []
    assert keys.store.get(users=["bob"]) == before["bob"]
    (bobs,) = client.sessions.list(user_id="bob")
    assert next(iter(client.sessions.history(bobs))).text == f"{CANARY} said by bob"
    with pytest.raises(UserErased):
        client.sessions.create(user_id="ada")


def test_a_backup_of_before_opens_for_others_and_is_told_who_was_erased(
    settings: Settings,
    postgres_server: EmbeddedPostgres,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Client(settings=settings) as client:
        for user in ("ada", "bob"):
            talk(client, settings, user)
    restored = backed_up(postgres_server, settings)
    with Client(settings=settings) as client:
        client.users.erase("ada")
    with Client(settings=restored) as client:
        (bobs,) = client.sessions.list(user_id="bob")
        assert next(iter(client.sessions.history(bobs))).text == f"{CANARY} said by bob"
        with pytest.raises(DataKeyMissing):
            client.users.export("ada", tmp_path / "ada.zip")
        examination = Examination(settings=restored, environ={})
        examination.database = client._executor.database
        assert [one.code for one in check_erasures(examination)] == ["erasures_to_replay"]
        told = client.users.replay_erasures()
        assert (told.known, told.erased) == (1, 1)
        assert client.users.erasure("ada").rows["sessions"] == 1
        assert [one.user_id for one in client.sessions.list()] == ["bob"]
        assert [one.level for one in check_erasures(examination)] == ["ok"]
        monkeypatch.setattr(keys_of(client), "held_for", 1.0)
        monkeypatch.setattr(erasing, "_WRITTEN_WITHIN", 0.0)
        assert client.users.admit("ada")
        talk(client, restored, "ada")
        assert client.users.replay_erasures().erased == 0, "who was let in again stays"


def test_who_is_let_in_again_is_sealed_for_by_no_key_of_before(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(settings=settings) as other:
        for one in (client, other):
            keys_of(one).held_for = 1.5
        monkeypatch.setattr(erasing, "_WRITTEN_WITHIN", 0.5)
        talk(client, settings, "ada")
        other.sessions.create(user_id="ada")  # it holds her key from now on
        other.sessions.create(user_id="bob")
        client.users.erase("ada")
        assert client.users.admit("ada")
        anew = other.sessions.create(user_id="ada", system_prompt=f"{CANARY} is back")
    keys_of(client).drop()
    assert client.sessions.get(anew.id).system_prompt == f"{CANARY} is back"


def test_who_died_while_he_let_somebody_in_again_is_helped_by_doing_so_once_more(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys_of(client).held_for = 1.0
    monkeypatch.setattr(erasing, "_WRITTEN_WITHIN", 0.0)
    talk(client, settings, "ada")
    client.users.erase("ada")
    with monkeypatch.context() as dying:
        dying.setattr(keys_of(client).store, "note_erasure", _die)
        with pytest.raises(DataKeyMissing):
            client.users.admit("ada")
    with pytest.raises(UserErased):
        client.sessions.create(user_id="ada")
    client.users.admit("ada")
    talk(client, settings, "ada")


def _die(*_: object) -> None:
    raise DataKeyMissing("the key store is away")


def test_a_data_key_that_a_backup_of_the_key_store_brought_back_is_found_and_forgotten_again(
    client: Client, settings: Settings
) -> None:
    for user in ("ada", "bob"):
        talk(client, settings, user)
    folder = Path(settings.key_store)
    before = {one: one.read_bytes() for one in folder.rglob("*") if one.is_file()}
    client.users.erase("ada")
    assert client.users.verify_erasure("ada").remains == []
    for path, kept in before.items():
        path.write_bytes(kept)
    (left,) = client.users.verify_erasure("ada").remains
    assert (left.where, left.what, left.count) == ("keys", "id", 1)
    assert client.users.replay_erasures().erased == 1
    assert client.users.verify_erasure("ada").remains == []
    assert client.users.replay_erasures().erased == 0
    assert client.sessions.list(user_id="bob")[0].system_prompt == f"{CANARY} of bob"


def test_where_words_are_encrypted_a_look_says_that_it_could_not_be_looked(
    client: Client, settings: Settings
) -> None:
    for user in ("ada", "bob"):
        talk(client, settings, user)
    client.users.erase("ada")
    assert client.users.verify_erasure("ada").clean, "an id stands in plain"
    of_bob = [f"{CANARY} said by bob"]
    found = client.users.verify_erasure("ada", words=of_bob)
    closed = {"sessions.system_prompt: encrypted", "messages.content: encrypted"}
    assert (set(found.unseen), found.clean) == (closed, False)
    in_file = client.users.verify_erasure("ada", words=[f"{CANARY} in a file of bob"])
    assert [(one.where, one.what) for one in in_file.remains] == [("files", "word")]
    with Client(settings=replace(settings, encryption_keys="", key_store="")) as keyless:
        blind = keyless.users.verify_erasure("ada", words=of_bob)
    assert set(blind.unseen) == {*closed, "files: data_key_missing"}


def test_what_was_said_in_sessions_of_others_is_encrypted_by_their_keys_and_stays_in_backups(
    client: Client, settings: Settings
) -> None:
    for user in ("ada", "bob", "eve"):
        talk(client, settings, user)
    (of_bob,) = client.sessions.list(user_id="bob")
    for name in ("ada", "eve"):
        client.sessions.participants.add(of_bob, name)
    client.send(of_bob, "a note of ada", sender="ada", to="participants")
    report = client.users.erase("ada")
    assert report.backups.state == BackupState.READABLE, "bob's key opens what she said there"
    assert client.users.erase("eve").backups.state == BackupState.SHREDDED
