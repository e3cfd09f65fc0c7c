"""File stores: a folder, memory, and a bucket hold to the same port."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from turnmill.domain.errors import FilesUnavailable, InvalidSetting
from turnmill.files.folder import Folder
from turnmill.files.memory import Memory
from turnmill.files.objects import Objects, client_options
from turnmill.files.opened import file_store
from turnmill.files.port import CHUNK, FileStore, MissingBytes
from turnmill.settings import Settings
from turnmill.store.database import Database

KEY = f"{'a' * 64}/{'b' * 32}"
OTHER = f"{'c' * 64}/{'d' * 32}"


@pytest.fixture(params=["folder", "memory", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FileStore:
    if request.param == "folder":
        return Folder(tmp_path / "files")
    return Memory() if request.param == "memory" else Objects("memory:///")


def whole(store: FileStore, key: str, *, start: int = 0) -> bytes:
    return b"".join(store.chunks(key, start=start))


def found(store: FileStore, prefix: str = "") -> list[str]:
    kept = store.keys(prefix)
    return sorted(one.key for one in kept)


def test_what_was_put_is_read_in_pieces_from_wherever(store: FileStore) -> None:
    content = os.urandom(3 * CHUNK + 5)
    store.put(KEY, [content[:7], b"", content[7:]])
    pieces = list(store.chunks(KEY))
    assert b"".join(pieces) == content
    assert all(0 < len(piece) <= CHUNK for piece in pieces)
    assert whole(store, KEY, start=CHUNK + 1) == content[CHUNK + 1 :]
    assert store.size(KEY) == len(content)


def test_a_second_put_takes_the_place_of_the_first(store: FileStore) -> None:
    store.put(KEY, [b"a long first"])
    store.put(KEY, [b"second"])
    assert (whole(store, KEY), store.size(KEY), found(store)) == (b"second", 6, [KEY])


def test_a_put_that_fails_keeps_nothing_and_raises_what_it_was(store: FileStore) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x" * CHUNK
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        store.put(KEY, broken())
    assert (store.size(KEY), found(store)) == (None, [])


def test_what_is_not_there_is_missing_and_deleting_it_is_no_error(store: FileStore) -> None:
    with pytest.raises(MissingBytes):
        whole(store, KEY)
    assert store.size(KEY) is None
    store.delete(KEY)
    store.put(KEY, [b"x"])
    store.delete(KEY)
    store.delete(KEY)
    assert found(store) == []


def test_keys_are_listed_with_their_sizes(store: FileStore) -> None:
    store.put(KEY, [b"x"])
    store.put(OTHER, [b"yy"])
    kept = store.keys()
    assert sorted((one.key, one.size) for one in kept) == [(KEY, 1), (OTHER, 2)]
    assert found(store, "a" * 64) == [KEY]


def test_a_folder_is_its_owners_alone_and_takes_no_path_for_a_key(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "files")
    folder.put(KEY, [b"x"])
    path = tmp_path / "files" / KEY
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    for key in ("../secret", "/etc/passwd", f"{'a' * 64}/../x", "x", f"{KEY}/y", KEY.upper()):
        with pytest.raises(ValueError, match="no key"):
            folder.size(key)


def test_a_folder_that_cannot_be_written_says_so_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("a file")
    with pytest.raises(FilesUnavailable) as caught:
        Folder(tmp_path / "files").put(KEY, [b"x"])
    assert str(tmp_path) not in str(caught.value)


def test_a_url_says_which_store_it_is(tmp_path: Path) -> None:
    database = Database("sqlite://")

    def opened(url: str, *, lasting: bool = True) -> Any:
        settings = Settings(files_url=url, home=tmp_path)
        return file_store(settings, beside=database, lasting=lasting)

    assert isinstance(opened(""), Folder)
    assert isinstance(opened(f"file://{tmp_path}"), Folder)
    assert isinstance(opened(str(tmp_path)), Folder)
    assert isinstance(opened("s3://bucket/path"), Objects)
    assert opened("memory://") is opened("", lasting=False)
    for wrong in ("ftp://host/x", "http://host/x", "file://elsewhere/x"):
        with pytest.raises(InvalidSetting):
            opened(wrong)
    database.close()


def test_a_bucket_is_called_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_PROXY_URL", "http://proxy:3128")
    monkeypatch.setenv("GOOGLE_TIMEOUT", "5s")
    told = {"timeout": "60s", "allow_http": "true", "proxy_url": "http://proxy:3128"}
    assert client_options("s3://bucket/path") == told
    assert client_options("gs://bucket") == {"timeout": "5s"}
    assert client_options("memory:///") == {"timeout": "60s"}
