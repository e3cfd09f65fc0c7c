"""Files that are plain, or sealed by a key of before, are sealed anew while they are read."""

import hashlib
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from turnmill import Attachment, Client, Settings
from turnmill.crypto.keyring import new_key
from turnmill.crypto.wanted import Owner
from turnmill.files.folder import Folder
from turnmill.files.sealed import FRAME
from turnmill.store.database import Database
from turnmill.store.encryption import keys_for
from turnmill.store.file_records import key_of
from turnmill.store.upkeep.resealing import begin_anew, progress
from turnmill.verbs.sealing_files import FilesToSeal

LONG = timedelta(minutes=1)
WORDS = b"CANARY-77aa " * (2 * FRAME // 12)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        database_url=f"sqlite:///{tmp_path}/turns.db",
        encryption_keys=new_key("1"),
        key_store=str(tmp_path / "keys"),
        files_url=str(tmp_path / "files"),
        home=tmp_path / "home",
    )


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings=settings) as found:
        yield found


@pytest.fixture
def database(settings: Settings, client: Client) -> Iterator[Database]:
    found = Database(settings.database_url, keys=keys_for(settings))
    client.sessions.list()  # the tables are there
    yield found
    found.close()


def plain(settings: Settings, content: bytes) -> Attachment:
    """Give a file where nothing is encrypted yet."""
    without = replace(settings, encryption_keys="", key_store="")
    with Client(settings=without) as client:
        return client.attachments.put(content, user_id="ada")


def as_it_lies(settings: Settings, file: Attachment) -> bytes:
    return (Path(settings.files_url) / key_of(file.user_id, file.id)).read_bytes()


def test_a_file_of_before_is_sealed_and_known_by_a_hash_of_its_users_alone(
    settings: Settings, client: Client, database: Database
) -> None:
    before = plain(settings, WORDS)
    assert b"CANARY" in as_it_lies(settings, before)
    files = FilesToSeal(database, settings)
    assert (files.seal(within=LONG), files.seal(within=LONG)) == (1, 0)
    assert b"CANARY" not in as_it_lies(settings, before)
    assert b"".join(client.attachments.open(before)) == WORDS
    digest = hashlib.sha256(WORDS).hexdigest()
    assert before.sha256 == digest != client.attachments.get(before).sha256
    assert client.attachments.put(WORDS, user_id="ada").id == before.id, "it is known still"
    (stand,) = [one for one in database.run(progress) if one.name == "attachments.files"]
    assert (stand.looked_at, stand.sealed, stand.is_done) == (1, 1, True)


def test_whoever_goes_on_goes_on_behind_what_was_noted(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [plain(settings, b"CANARY %d" % n) for n in range(5)]
    put, done = Folder.put, iter(range(3))

    def dies(self: Folder, key: str, chunks: Iterable[bytes]) -> None:
        if next(done, None) is None:
            raise KeyboardInterrupt
        put(self, key, chunks)

    monkeypatch.setattr(Folder, "put", dies)
    files = FilesToSeal(database, settings)
    assert files.seal_next(limit=2) == 2
    with pytest.raises(KeyboardInterrupt):
        files.seal_next(limit=2)  # one of the two was sealed
    monkeypatch.setattr(Folder, "put", put)
    assert FilesToSeal(database, settings).seal(within=LONG) == 3
    assert not [one for one in kept if b"CANARY" in as_it_lies(settings, one)]


def test_a_file_that_is_deleted_while_it_is_sealed_does_not_come_back(
    settings: Settings, client: Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = plain(settings, b"words")
    put = Folder.put

    def late(self: Folder, key: str, chunks: Iterable[bytes]) -> None:
        said = list(chunks)
        client.attachments.delete(file)
        put(self, key, said)

    monkeypatch.setattr(Folder, "put", late)
    FilesToSeal(database, settings).seal(within=LONG)
    assert [one for one in Path(settings.files_url).rglob("*") if one.is_file()] == []


@pytest.mark.parametrize("start", [0, 5, FRAME + 7])
@pytest.mark.parametrize("was_plain", [True, False])
def test_who_reads_a_file_while_it_is_sealed_anew_reads_it(
    settings: Settings, client: Client, database: Database, start: int, was_plain: bool
) -> None:
    file = plain(settings, WORDS) if was_plain else client.attachments.put(WORDS, user_id="ada")
    files: Any = client._executor.files
    key, ended = key_of("ada", file.id), threading.Event()
    assert database.keys is not None

    def rotate() -> None:
        assert database.keys is not None
        while not ended.is_set():
            database.keys.rotate(Owner("ada"))
            database.run(begin_anew)
            FilesToSeal(database, settings).seal(within=LONG)

    rotating = threading.Thread(target=rotate)
    rotating.start()
    try:
        for _ in range(20):
            assert b"".join(files.chunks(key, start=start)) == WORDS[start:]
    finally:
        ended.set()
        rotating.join()
