"""`client.users`, over a real database: archives that are whole, and erasures of what is large."""

import asyncio
import hashlib
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from sqlalchemy import func, select

from tests import rows, steps
from turnmill import AsyncClient, Client, InvalidInput, Settings, TurnmillError, UserNotFound
from turnmill.store.nouns import sessions as session_rows
from turnmill.store.nouns.user_archive import LEFT_OUT, schema
from turnmill.store.schema.belongings import BELONGINGS
from turnmill.store.schema.file_tables import attachments
from turnmill.verbs import intake
from turnmill.verbs.users.erasing import Erasing

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(database_url=database_url, home=tmp_path / "home")


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings=settings) as client:
        yield client


def talk(client: Client, user: str, text: str = "hello") -> None:
    """Have some conversation, with a file."""
    session = client.sessions.create(user_id=user, system_prompt="Be brief.", metadata={"a": 1})
    store = client._executor.database
    for said in (text, "grüße, 漢字\n\"'"):
        file = f"the file of {user}: {said}".encode()
        turn = client.send(session, said, attachments=[file])
        steps.end(store, steps.take_one(store, turn.id), provider_ref=f"resp_{said[:3]}")
    rows.send(store, session.id, "waits")
    client.budgets.set(limit_usd=5, user_id=user)


def read(path: Path) -> dict[str, Any]:
    """Return what is in an archive: bytes by name, and the manifest."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def lines(found: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in found[f"{name}.jsonl"].splitlines()]


def test_an_archive_holds_everything_of_the_user_and_of_nobody_else(
    client: Client, tmp_path: Path
) -> None:
    for user in ("ada", "bob"):
        talk(client, user)
    told: list[tuple[str, int]] = []
    made = client.users.export(
        "ada", tmp_path / "ada.zip", progress=lambda what, count: told.append((what, count))
    )
    found = read(tmp_path / "ada.zip")
    with client._executor.database.begin() as conn:
        for one in BELONGINGS:
            if one.table.name in LEFT_OUT:
                continue
            query = select(func.count()).select_from(one.table).where(one.of_user("ada"))
            assert len(lines(found, one.table.name)) == conn.scalar(query), one.table.name
    assert (made.rows["sessions"], made.rows["messages"], made.files) == (1, 5, 2)
    assert made.rows["budgets"] == made.rows["usage"] == 1
    said = {
        part["text"]
        for line in lines(found, "messages")
        for part in line["content"]
        if part["type"] == "text"
    }
    assert {"hello", "grüße, 漢字\n\"'", "waits"} < said
    files = [found[f"files/{one['id']}"] for one in lines(found, "attachments")]
    assert all(file.startswith(b"the file of ada") for file in files)
    assert not any(b"bob" in content for content in found.values())
    assert ("messages", 5) in told and ("files", 2) in told


def test_every_line_of_an_archive_fits_its_schema_and_nothing_was_changed(
    client: Client, tmp_path: Path
) -> None:
    talk(client, "ada")
    made = client.users.export("ada", tmp_path / "ada.zip")
    found = read(tmp_path / "ada.zip")
    told = json.loads(found["schema.json"])
    assert told == schema()
    check = jsonschema.Draft202012Validator
    check.check_schema(told)
    for name, of_line in told["$defs"].items():
        validator = check(of_line, format_checker=check.FORMAT_CHECKER)
        for line in (
            [json.loads(found["manifest.json"])] if name == "manifest" else lines(found, name)
        ):
            assert [error.message for error in validator.iter_errors(line)] == [], name
    manifest = json.loads(found["manifest.json"])
    for one in manifest["files"]:
        assert hashlib.sha256(found[one["path"]]).hexdigest() == one["sha256"]
        assert len(found[one["path"]]) == one["bytes"]
    assert {one["path"] for one in manifest["files"]} == found.keys() - {"manifest.json"}
    digest = hashlib.sha256((tmp_path / "ada.zip").read_bytes()).hexdigest()
    assert (made.sha256, made.bytes) == (digest, (tmp_path / "ada.zip").stat().st_size)
    assert (tmp_path / "ada.zip").stat().st_mode & 0o777 == 0o600
    assert "hello" not in found["README.md"].decode()
    assert "messages.jsonl" in found["README.md"].decode()


def test_the_schema_in_the_docs_is_that_of_archives() -> None:
    told = json.loads((ROOT / "docs/user-archive.schema.json").read_text(encoding="utf-8"))
    assert told == schema()


def test_a_file_whose_bytes_are_gone_or_changed_is_named(client: Client, tmp_path: Path) -> None:
    talk(client, "ada")
    first, second = sorted((tmp_path / "home/files").rglob("*/*"))
    first.unlink()
    second.write_bytes(b"something else")
    made = client.users.export("ada", tmp_path / "ada.zip")
    assert {one.hex for one in made.missing} == {first.name, second.name}
    manifest = json.loads(read(tmp_path / "ada.zip")["manifest.json"])
    assert len(manifest["missing"]) == 2


def test_nothing_is_left_of_an_archive_that_could_not_be_written(
    client: Client, tmp_path: Path
) -> None:
    with pytest.raises(UserNotFound):
        client.users.export("nobody", tmp_path / "nobody.zip")
    talk(client, "ada")
    with pytest.raises(InvalidInput):
        client.users.export("ada", tmp_path / "no such folder" / "ada.zip")
    assert list(tmp_path.glob("*.zip")) == list(tmp_path.glob(".turnmill-*")) == []


def test_both_clients_do_the_same(client: Client, settings: Settings, tmp_path: Path) -> None:
    for user in ("ada", "bob"):
        talk(client, user)

    async def on_a_loop() -> None:
        async with AsyncClient(settings=settings) as other:
            made = await other.users.export("ada", tmp_path / "ada.zip")
            assert made.rows == client.users.export("ada", tmp_path / "again.zip").rows
            hold = await other.users.hold("ada", reason="case 7")
            assert await other.users.holds() == client.users.holds() == [hold]
            assert await other.users.release("ada")
            report = await other.users.erase("ada", reason="asked")
            assert await other.users.erasure("ada") == client.users.erasure("ada") == report
            assert await other.users.erasures() == client.users.erasures()
            found = await other.users.verify_erasure("ada")
            assert found.remains == client.users.verify_erasure("ada").remains == []
            assert await other.users.admit("ada")
            await other.users.erase("bob", grace=timedelta(days=30))
            assert await other.users.withdraw("bob")
            assert (await other.users.replay_erasures()).erased == 0

    asyncio.run(on_a_loop())


def test_bytes_of_an_erased_user_are_gone_and_nobody_elses(client: Client, tmp_path: Path) -> None:
    for user in ("ada", "bob"):
        talk(client, user)
    report = client.users.erase("ada")
    assert report.rows["attachments"] == 2
    files = [one for one in (tmp_path / "home/files").rglob("*") if one.is_file()]
    assert len(files) == 2
    assert all(b"of bob" in one.read_bytes() for one in files)
    with client._executor.database.begin() as conn:
        owners = conn.scalars(select(attachments.c.user_id)).all()
    assert set(owners) == {"bob"}


def test_a_file_that_comes_while_its_user_is_erased_leaves_no_bytes(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk(client, "ada")
    store = client._executor.files
    put = store.put

    def put_late(key: str, chunks: Any) -> None:
        put(key, chunks)
        client.users.erase("ada")

    monkeypatch.setattr(store, "put", put_late)
    with pytest.raises(TurnmillError):
        client.attachments.put(b"comes late", user_id="ada")
    assert [one for one in (tmp_path / "home/files").rglob("*") if one.is_file()] == []
    assert client.users.erasure("ada").rows["sessions"] == 1
    assert client.users.verify_erasure("ada").remains == []


def test_a_session_that_was_being_made_when_its_user_was_erased_goes_as_well(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnmill.verbs.users.erasing._WAITED_FOR", 0.2)
    talk(client, "ada")
    store = client._executor.database
    made: dict[str, Any] = {"user_id": "ada", "provider": "mock", "model": "mock", "key": None}
    new = intake.new_session(**made, max_text_bytes=100)
    with store.begin() as conn:
        session_rows.create(conn, new)
        report = client.users.erase("ada")
    assert "transactions that began before" in {one.what for one in report.pending}
    assert len(client.sessions.list(user_id="ada")) == 1, "it was there before anybody could know"
    assert Erasing(store, settings).go_on_with_all() == 1
    assert client.sessions.list(user_id="ada") == []
    report = client.users.erasure("ada")
    assert report.rows["sessions"] == 2
    assert [one.what for one in report.pending] == ["kept_refs"]


def test_a_look_finds_what_is_left_and_tells_its_place_alone(
    client: Client, tmp_path: Path
) -> None:
    for user in ("ada", "bob"):
        talk(client, user, text="a secret of both")
    client.users.erase("ada")
    found = client.users.verify_erasure("ada", words=["secret of both", "the file of bob"])
    assert {(one.where, one.what) for one in found.remains} == {
        ("messages.content", "word"),
        ("files", "word"),
    }
    assert not found.clean and "secret" not in repr(found)
    assert found.columns > 100 and found.files == 2
    assert client.users.verify_erasure("ada").remains == []
    rows.start(client._executor.database, user_id="eve", metadata={"friend": "ada"})
    (left,) = client.users.verify_erasure("ada").remains
    assert (left.where, left.what, left.count) == ("sessions.metadata", "id", 1)


def test_a_look_tells_columns_by_name_whatever_the_order_of_the_stores_tables(
    client: Client,
) -> None:
    talk(client, "ada")
    session = client.sessions.list(user_id="ada")[0].id
    client.sessions.participants.add(session, "eve", by="ada")
    found = client.users.verify_erasure("ada").remains
    columns = [one.where for one in found if "." in one.where]
    assert {"participants.name", "sessions.user_id"} <= set(columns)
    assert columns == sorted(columns)


def test_a_look_finds_what_is_in_columns_that_nobody_knows_the_type_of(client: Client) -> None:
    talk(client, "ada")
    client.users.erase("ada")
    planted = (
        "CREATE TYPE turnmill.who AS ENUM ('ada', 'eve')",
        "CREATE DOMAIN turnmill.naming AS text",
        "CREATE TABLE turnmill.elsewhere (listed text[], one turnmill.who,"
        " called turnmill.naming, said tsvector, far text)",
        "ALTER TABLE turnmill.elsewhere ALTER far SET STORAGE EXTERNAL",
        "INSERT INTO turnmill.elsewhere VALUES (ARRAY['eve', 'ada'], 'ada', 'ada', 'canary',"
        " repeat('x', 100000) || 'canary')",
    )
    with client._executor.database.begin() as conn:
        for statement in planted:
            conn.exec_driver_sql(statement)
    found = client.users.verify_erasure("ada", words=["canary"]).remains
    assert {(one.where, one.what) for one in found} == {
        ("elsewhere.listed", "id"),
        ("elsewhere.one", "id"),
        ("elsewhere.called", "id"),
        ("elsewhere.said", "word"),
        ("elsewhere.far", "word"),
    }


def test_no_question_about_who_was_erased_writes_his_name_down(
    client: Client, settings: Settings, tmp_path: Path
) -> None:
    talk(client, "ada")
    client.users.erase("ada")
    for ask in (
        lambda: client.users.export("ada", tmp_path / "ada.zip"),
        lambda: client.users.hold("ada", reason="case 7"),
        lambda: client.budgets.remove(user_id="ada"),
    ):
        with pytest.raises(TurnmillError):
            ask()
    for quiet in (client.users.erase, client.users.release, client.users.withdraw):
        quiet("ada")
    client.audit.list(user_id="ada")
    with Client(settings=replace(settings, by_hand=True)) as operator:
        operator.sessions.keep_content("ada", None)
    assert client.users.verify_erasure("ada").remains == []
    assert client.audit.verify().ok


def test_erasures_are_listed_and_a_list_of_before_is_replayed(
    client: Client, tmp_path: Path
) -> None:
    for user in ("ada", "bob"):
        talk(client, user)
    client.users.erase("ada")
    (noted,) = client.users.erasures()
    path = tmp_path / "erasures.jsonl"
    path.write_text(json.dumps({"user_hash": noted.user_hash}) + "\n", encoding="utf-8")
    with client._executor.database.begin() as conn:  # as after a backup of before was restored
        for table in ("erasures", "tombstones"):
            conn.exec_driver_sql(f"DELETE FROM turnmill.{table}")
    talk(client, "ada")
    assert client.users.replay_erasures().erased == 0, "nobody knows of it"
    assert client.users.replay_erasures(path).erased == 1
    assert client.sessions.list(user_id="ada") == []
    assert len(client.sessions.list(user_id="bob")) == 1
    path.write_text('{"user": "ada"}\n', encoding="utf-8")
    with pytest.raises(InvalidInput, match="line 1"):
        client.users.replay_erasures(path)
