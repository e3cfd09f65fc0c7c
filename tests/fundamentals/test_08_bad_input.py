"""Bad input is a typed error with a hint, and nothing is half-written."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from tests.fundamentals.conftest import System
from turnmill import (
    Client,
    Conflict,
    InvalidInput,
    InvalidSetting,
    InvalidText,
    QueueFull,
    SchemaOutOfDate,
    SessionNotFound,
    Settings,
    StoreUnavailable,
    TurnNotFound,
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("x" * 10_000_000, "bytes long"),
        ("a\0b", "NUL at character 1"),
        ("a\ud800", "lone surrogate at character 1"),
        (None, "must be a str"),
    ],
    ids=["empty", "blank", "ten megabytes", "NUL", "lone surrogate", "None"],
)
def test_text_that_no_store_can_take_is_refused(client: Client, text: Any, says: str) -> None:
    session = client.sessions.create(user_id="ada")
    with pytest.raises(InvalidText, match=says):
        client.send(session, text)
    assert list(client.sessions.history(session)) == []


@pytest.mark.parametrize(
    "call",
    [
        lambda client, session: client.send(session, "x", lane="quarantine"),
        lambda client, session: client.send(session, "x", lane="fast"),
        lambda client, session: client.send(session, "x", deliver_at="tomorrow"),
        lambda client, session: client.send(session, "x", metadata={"when": object()}),
        lambda client, session: client.send(session, "x", metadata={"nan": float("nan")}),
        lambda client, session: client.send(session, "x", metadata={"nul": "\0"}),
        lambda client, session: client.send(session, "x", max_attempts=0),
        lambda client, session: client.send(session, "x", idempotency_key=""),
        lambda client, session: client.send(42, "x"),
        lambda client, session: client.sessions.update(session),
        lambda client, session: client.sessions.update(session, colour="red"),
        lambda client, session: client.sessions.create(user_id=""),
        lambda client, session: client.sessions.create(user_id="u", key=str(uuid4())),
        lambda client, session: client.turns.get("not an id"),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused(
    client: Client, call: Callable[[Client, Any], object]
) -> None:
    session = client.sessions.create(user_id="ada")
    with pytest.raises(InvalidInput):
        call(client, session)
    assert list(client.sessions.history(session)) == []


def test_a_session_that_is_not_there_is_not_found(client: Client) -> None:
    for unknown in ("no:such:key", uuid4()):
        with pytest.raises(SessionNotFound):
            client.send(unknown, "hello?")


def test_a_turn_that_is_not_there_is_not_found(client: Client) -> None:
    with pytest.raises(TurnNotFound):
        client.turns.get(uuid4())


def test_the_key_of_another_user_is_a_conflict(client: Client) -> None:
    client.sessions.create(user_id="ada", key="shared:key")
    with pytest.raises(Conflict):
        client.sessions.create(user_id="bob", key="shared:key")


def test_a_url_that_cannot_be_understood_is_refused_without_quoting_it() -> None:
    for url in ("", "postgres//secret", "mysql://u:secret@h/db"):
        with pytest.raises(InvalidSetting) as caught:
            Client(database_url=url)
        assert "secret" not in str(caught.value)


def test_a_database_that_is_down_is_a_typed_error() -> None:
    with (
        Client(database_url="postgresql://turnmill@127.0.0.1:1/none") as client,
        pytest.raises(StoreUnavailable),
    ):
        client.sessions.create(user_id="ada")


def test_a_database_without_tables_says_what_to_run(system: System) -> None:
    url = system.database_url.rsplit("/", 1)[0] + "/postgres"
    with Client(database_url=url) as client, pytest.raises(SchemaOutOfDate) as caught:
        client.sessions.create(user_id="ada")
    assert "turnmill migrate" in caught.value.hint


def test_a_message_is_accepted_while_the_broker_is_down(system: System) -> None:
    with Client(database_url=system.database_url, broker_url="redis://127.0.0.1:1/0") as client:
        session = client.sessions.create(user_id="ada")
        assert client.send(session, "still accepted").result(timeout=30).text


def test_a_user_with_too_many_open_turns_is_told_to_wait(system: System) -> None:
    settings = Settings(
        database_url=system.database_url,
        broker_url=system.broker_url,
        max_unfinished_per_user=2,
    )
    with Client(settings=settings) as client:
        session = client.sessions.create(user_id="greedy")
        client.sessions.pause(session)
        client.send(session, "one")
        client.send(session, "two")
        with pytest.raises(QueueFull) as caught:
            client.send(session, "three")
    assert caught.value.retry_after.total_seconds() > 0


def test_every_error_has_a_code_and_survives_pickling() -> None:
    import pickle

    error = QueueFull(retry_after=Settings().lease)
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, QueueFull)
    assert (again.code, again.retry_after) == ("queue_full", error.retry_after)
