"""`turnmill doctor` looks whether files can be kept, and whether those that are known are there."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from turnmill import Client, Settings
from turnmill.cli.doctor.files import check_files
from turnmill.cli.doctor.findings import Examination, Finding, Level
from turnmill.crypto.keyring import new_key
from turnmill.files.folder import Folder
from turnmill.store.database import Database
from turnmill.store.encryption import keys_for


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(database_url=database_url, files_url=str(tmp_path / "files"))


def examined(settings: Settings) -> list[Finding]:
    database = Database(settings.database_url, keys=keys_for(settings))
    try:
        return list(check_files(Examination(settings=settings, environ={}, database=database)))
    finally:
        database.close()


def codes(found: list[Finding]) -> list[tuple[Level, str]]:
    return [(one.level, one.code) for one in found]


def files_in(settings: Settings) -> Iterator[Path]:
    return (one for one in Path(settings.files_url).rglob("*") if one.is_file())


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_file_store_that_works_is_left_as_it_was(
    settings: Settings, tmp_path: Path, encrypted: bool
) -> None:
    if encrypted:
        settings = replace(settings, encryption_keys=new_key("1"), key_store=str(tmp_path / "keys"))
    with Client(settings=settings) as client:
        client.attachments.put(b"words", user_id="ada")
    before = sorted(files_in(settings))
    found = examined(settings)
    assert codes(found) == [(Level.OK, "")]
    assert "1 attachment looked for" in found[0].what
    assert sorted(files_in(settings)) == before


def test_attachments_without_bytes_are_counted_and_named_by_nobody(settings: Settings) -> None:
    with Client(settings=settings) as client:
        for n in range(3):
            client.attachments.put(f"words {n}".encode(), user_id=f"user-{n % 2}", name="secret")
    for one in list(files_in(settings))[:2]:
        one.unlink()
    found = examined(settings)
    assert codes(found) == [(Level.OK, ""), (Level.WRONG, "files_missing")]
    assert "2 of 3 attachments have no bytes here" in found[1].what
    assert "secret" not in str(found) and "user-" not in str(found)


def test_a_store_that_takes_nothing_is_wrong(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "files").write_text("a file where a folder is to be")
    assert codes(examined(settings)) == [(Level.WRONG, "files_unavailable")]
    os.unlink(tmp_path / "files")
    monkeypatch.setattr(Folder, "put", lambda *_: None)  # it says so, and keeps nothing
    assert codes(examined(settings)) == [(Level.WRONG, "files_unavailable")]


def test_where_nobody_has_given_a_file_no_folder_is_made(database_url: str, tmp_path: Path) -> None:
    settings = Settings(database_url=database_url, home=tmp_path / "home")
    assert examined(settings) == []
    assert not (tmp_path / "home").exists()
    memory = Settings(database_url=database_url, files_url="memory://")
    assert codes(examined(memory)) == [(Level.NOTE, "files_in_memory")]
