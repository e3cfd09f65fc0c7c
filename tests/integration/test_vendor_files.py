"""Pictures and documents of a session, from `send` to both vendors, and what is left there."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import insert, select

from tests import steps
from tests.attachments import PDF, a_png
from tests.doubles.both_vendors import BothVendors
from tests.openai_sessions import WAIT, sound_client, store_of
from tests.waiting import until
from turnmill import Client, Turn, TurnFailed
from turnmill.domain.ids import SessionId
from turnmill.domain.uploads import IN_FLIGHT, new_name
from turnmill.store.database import Database
from turnmill.store.line import uploads
from turnmill.store.schema import migrate
from turnmill.store.schema.kept_tables import kept_refs
from turnmill_worker.providers.registry import ProviderRegistry
from turnmill_worker.upkeep.jobs import Upkeep

MODELS = {"anthropic": "claude-sonnet-4-5", "openai": "gpt-5-mini"}
both = pytest.mark.parametrize("vendor", MODELS)
ALWAYS = {"uploads": "always"}


@pytest.fixture(scope="module")
def running() -> Iterator[BothVendors]:
    with BothVendors() as vendors:
        yield vendors


@pytest.fixture
def vendors(running: BothVendors, monkeypatch: pytest.MonkeyPatch) -> BothVendors:
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    running.forget()
    return running


@pytest.fixture
def client(vendors: BothVendors) -> Iterator[Client]:
    with sound_client() as client:
        yield client


def start(client: Client, vendor: str, **settings: Any) -> SessionId:
    return client.sessions.create(
        user_id="ada", provider=vendor, model=MODELS[vendor], settings=settings
    ).id


def ask(client: Client, session: SessionId, *attachments: bytes) -> str:
    turn = client.send(session, "What is this?", attachments=attachments)
    return turn.result(timeout=WAIT).text


def files_of(vendors: BothVendors, vendor: str) -> Any:
    return getattr(vendors, vendor).files


def rows(client: Client) -> list[str]:
    with store_of(client).begin() as conn:
        query = select(kept_refs.c.ref).where(kept_refs.c.attachment_id.is_not(None))
        return sorted(conn.scalars(query))


@both
def test_a_question_about_a_picture_is_answered_and_its_history_goes_on(
    client: Client, vendors: BothVendors, vendor: str
) -> None:
    session = start(client, vendor)
    said = ask(client, session, a_png(30, 20), PDF, b"Some words.")
    assert said.count("image]") == 1
    assert ask(client, session).endswith("[2 before]")
    assert not files_of(vendors, vendor).kept
    assert not rows(client)


@both
def test_copies_that_a_vendor_lets_expire_between_two_turns_are_made_again_and_nobody_sees_it(
    client: Client, vendors: BothVendors, vendor: str
) -> None:
    files = files_of(vendors, vendor)
    session = start(client, vendor, **ALWAYS)
    ask(client, session, a_png(), PDF)
    assert len(files.kept) == 2
    files.expire()
    turn = client.send(session, "And now?")
    assert turn.result(timeout=WAIT).text.endswith("[2 before]")
    assert [one.outcome for one in turn.attempts()] == ["succeeded"]
    assert len(files.kept) == 2
    client.sessions.delete(session)
    until(lambda: not files.kept and not rows(client))


@both
@pytest.mark.parametrize("thread", ["chain", "client"])
@pytest.mark.parametrize("beside", [[], [b"A letter."]], ids=["alone", "beside another"])
def test_a_file_that_is_deleted_at_the_vendor_is_sent_again_though_its_thread_has_named_it(
    client: Client, vendors: BothVendors, vendor: str, thread: str, beside: list[bytes]
) -> None:
    files = files_of(vendors, vendor)
    session = start(client, vendor, **ALWAYS, thread=thread)
    ask(client, session, a_png(), PDF)
    files.forget()
    turn = client.send(session, "And now?", attachments=beside)
    assert turn.result(timeout=WAIT).text.endswith("[2 before]")
    assert [one.outcome for one in turn.attempts()] == ["succeeded"]
    assert len(files.kept) == 2 + len(beside)
    assert ask(client, session).endswith("[4 before]")
    client.sessions.delete(session)
    until(lambda: not files.kept)


def asked_again(client: Client, turn: Turn, *, attempt: int) -> None:
    """Let the turn be looked up in this attempt, without the pause before it."""
    until(lambda: turn.refresh().record.attempt == attempt and turn.state == "waiting")
    steps.due_now(store_of(client), turn.id)


def test_work_in_the_background_that_has_failed_for_a_file_is_sent_again_with_another_copy(
    client: Client, vendors: BothVendors
) -> None:
    files = files_of(vendors, "openai")
    before = files.uploads
    session = start(client, "openai", **ALWAYS, background=True)
    vendors.openai.meet("ok", "failed:image_file_not_found")  # the upload, and what is asked of it
    turn = client.send(session, "What is this?", attachments=[a_png()])
    asked_again(client, turn, attempt=1)
    asked_again(client, turn, attempt=2)
    assert turn.result(timeout=WAIT).text
    assert [one.error_code for one in turn.attempts()] == ["file_lost", None]
    assert files.uploads == before + 2
    until(lambda: len(files.kept) == 1)
    client.sessions.delete(session)
    until(lambda: not files.kept)


@both
@pytest.mark.parametrize("gone", ["session", "archived", "attachment"])
def test_with_session_or_attachment_the_copies_go_at_the_vendor_too(
    client: Client, vendors: BothVendors, vendor: str, gone: str
) -> None:
    files = files_of(vendors, vendor)
    session = start(client, vendor, **ALWAYS)
    kept = client.attachments.put(a_png(5, 5), user_id="ada")
    client.send(session, "What is this?", attachments=[kept]).result(timeout=WAIT)
    assert len(files.kept) == 1
    if gone == "attachment":
        client.attachments.delete(kept)
    elif gone == "archived":
        client.sessions.archive(session)
    else:
        client.sessions.delete(session)
    until(lambda: not files.kept and not rows(client))
    if gone == "attachment":
        assert ask(client, session).endswith("[2 before]")  # words stand in its place
        assert not files.kept


@both
def test_a_picture_that_the_vendor_would_refuse_is_refused_unless_it_is_to_fit(
    client: Client, vendors: BothVendors, vendor: str
) -> None:
    large = a_png(8001, 4) if vendor == "anthropic" else a_png(4, 4)
    session = start(client, vendor)
    turn = client.send(session, "What is this?", attachments=[large])
    if vendor == "anthropic":
        with pytest.raises(TurnFailed, match="picture_too_large"):
            turn.result(timeout=WAIT)
        client.sessions.update(session, settings={"pictures": "fit"})
        assert "image]" in ask(client, session, large)
    else:
        assert "image]" in turn.result(timeout=WAIT).text


@pytest.fixture(params=["postgres", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "postgres":
        url = request.getfixturevalue("database_url")
    else:
        url = f"sqlite:///{tmp_path / 'turns.db'}"
        migrate.upgrade(url)
    made = Database(url)
    yield made
    made.close()


def name(age: timedelta, mark: str) -> str:
    return new_name(datetime.now(UTC) - age, mark=mark)


def note(store: Database, vendor: str, ref: str) -> None:
    ids = {"session_id": uuid4(), "ref": ref, "provider": vendor}
    with store.begin() as conn:
        conn.execute(insert(kept_refs).values(**ids, stored=True, running=False))


@both
def test_copies_that_no_row_knows_are_found_at_the_vendor_and_all_others_are_left(
    store: Database, vendors: BothVendors, vendor: str
) -> None:
    files, old = files_of(vendors, vendor), timedelta(hours=2)
    files.forget()
    with store.begin() as conn:
        mark = uploads.mark(conn)
        assert uploads.mark(conn) == mark
    assert len(mark) == 12
    known, begun = name(old, mark), name(old, mark)
    left = [known, begun, name(timedelta(minutes=50), mark), name(old, "0" * 12), name(old, "")]
    stray = name(old, mark)
    for one in (*left, stray, "letters"):
        given = {"file": (f"{one}.pdf", "application/pdf", PDF)}
        ref = files.add(given, seconds=None, purpose="user_data").id
        if one == known:
            note(store, vendor, ref)
    note(store, vendor, IN_FLIGHT + begun)

    async def purged() -> Any:
        found = ProviderRegistry()
        try:
            return await Upkeep(store, found.get).purge(datetime.now(UTC))
        finally:
            await found.aclose()

    assert asyncio.run(purged())["copies_orphaned"] == 1
    assert {one.filename.partition(".")[0] for one in files.kept.values()} == {*left, "letters"}
    files.forget()


def test_a_store_in_memory_has_no_mark_and_two_stores_have_two(
    database_url: str, tmp_path: Path
) -> None:
    marks = []
    for url in (database_url, f"sqlite:///{tmp_path / 'a.db'}", f"sqlite:///{tmp_path / 'b.db'}"):
        store = Database(url)
        with store.begin() as conn:
            marks.append(uploads.mark(conn))
        store.close()
    assert len({*marks}) == 3
    memory = Database("sqlite://")
    with memory.begin() as conn:
        assert uploads.mark(conn) == ""
    memory.close()
