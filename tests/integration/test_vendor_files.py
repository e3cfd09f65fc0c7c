"""Pictures and documents of a session, from `send` to both vendors, and what is left there."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select

from tests.attachments import PDF, a_png
from tests.doubles.both_vendors import BothVendors
from tests.openai_sessions import WAIT, sound_client, store_of, until
from turnmill import Client, TurnFailed
from turnmill.domain.ids import SessionId
from turnmill.store.schema.kept_tables import kept_refs

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
