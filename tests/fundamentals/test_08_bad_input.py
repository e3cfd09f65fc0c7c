"""Bad input is a typed error with a hint, and nothing is half-written."""

import asyncio
import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.fundamentals.conftest import System
from turnmill import (
    AsyncClient,
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
        lambda client, session: client.sessions.create(user_id="ada", colour="red"),
        lambda client, session: client.send(session, "x", colour="red"),
        lambda client, session: client.send_many([(session, "x")], colour="red"),
        lambda client, session: client.batches.create("jobs.jsonl", colour="red"),
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


NEVER = datetime(9999, 12, 31, 23, 59, tzinfo=timezone(-timedelta(hours=12)))
DEEP = json.loads("[" * 900 + "]" * 900)
ODD_NAMES = ["n" * 1_000_000, "n\0", "n\ud800", "", " "]


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("metadata", lambda client, session: client.send(session, "x", metadata={"a": DEEP})),
        ("metadata", lambda client, session: client.send(session, "x", metadata={"a": 10**5000})),
        ("deliver_at", lambda client, session: client.send(session, "x", deliver_at=NEVER)),
        ("expires", lambda client, session: client.send(session, "x", expires=NEVER)),
        (
            "idle_ttl",
            lambda client, session: client.sessions.update(session, idle_ttl=timedelta.max),
        ),
        (
            "timeout",
            lambda client, session: client.sessions.update(session, settings={"timeout": 1e-9}),
        ),
        *[
            ("limit", lambda client, session, limit=limit: client.turns.list(limit=limit))
            for limit in (10**12, 0, -1, True, "5")
        ],
        *[
            (
                "idempotency_key",
                lambda client, session, odd=odd: client.send(session, "x", idempotency_key=odd),
            )
            for odd in ODD_NAMES
        ],
        *[
            ("key", lambda client, session, odd=odd: client.sessions.create(user_id="u", key=odd))
            for odd in ODD_NAMES
        ],
        *[("session", lambda client, session, odd=odd: client.send(odd, "x")) for odd in ODD_NAMES],
    ],
)
def test_what_is_out_of_bounds_is_refused_by_name_with_a_hint(
    client: Client, name: str, call: Callable[[Client, Any], object]
) -> None:
    session = client.sessions.create(user_id="ada")
    with pytest.raises(InvalidInput, match=name) as caught:
        call(client, session)
    assert caught.value.hint
    assert list(client.sessions.history(session)) == []


@pytest.mark.parametrize("odd", ODD_NAMES)
@pytest.mark.parametrize("field", ["name", "custom_id"])
def test_a_batch_with_an_odd_name_is_refused_whole(
    client: Client, tmp_path: Path, field: str, odd: str
) -> None:
    file = tmp_path / "batch.jsonl"
    line = {"user_id": "ada", "text": "x"} | ({field: odd} if field == "custom_id" else {})
    file.write_text(json.dumps(line))
    known = {batch.id for batch in client.batches.list()}
    options: Any = {"name": odd} if field == "name" else {}
    with pytest.raises(InvalidInput, match=field):
        client.batches.create(file, **options)
    assert {batch.id for batch in client.batches.list()} == known


def test_what_looks_like_an_escape_is_text_and_comes_back_as_it_was(client: Client) -> None:
    value = {"path": "C:\\u0000x", "\\u0000": ["\\\\u0000"]}
    session = client.sessions.create(user_id="ada", metadata=value, settings={"mock": {}, **value})
    turn = client.send(session, "x", metadata=value)
    turn.result(timeout=30)
    assert turn.refresh().record.metadata == session.metadata == value
    assert client.sessions.get(session).settings == {"mock": {}, **value}


def test_in_a_transaction_of_the_callers_own_nothing_is_written_either(client: Client) -> None:
    session = client.sessions.create(user_id="ada")
    with client._executor.database.begin() as connection:
        with pytest.raises(InvalidInput, match="metadata"):
            client.send(session, "x", metadata={"a": DEEP}, connection=connection)
        with pytest.raises(InvalidInput, match="session"):
            client.send("\0", "x", connection=connection)
        client.send(session, "the transaction goes on", connection=connection)
    assert [one.text for one in client.sessions.history(session)][:1] == ["the transaction goes on"]


def test_the_asynchronous_client_refuses_the_same(system: System) -> None:
    no_pair: Any = "x"
    no_id: Any = "x"
    calls: list[Callable[[AsyncClient, Any], Any]] = [
        lambda client, session: client.send(session, "x", metadata={"a": DEEP}),
        lambda client, session: client.send(session, "x", expires=NEVER),
        lambda client, session: client.send("\0", "x"),
        lambda client, session: client.send_many([(session, "x"), no_pair]),
        lambda client, session: client.sessions.create(user_id="u", idle_ttl=timedelta.max),
        lambda client, session: client.sessions.update(session, settings={"timeout": 1e-9}),
        lambda client, session: client.sessions.list(limit=10**12),
        lambda client, session: client.turns.list(limit=-1),
        lambda client, session: client.turns.list(after=no_id),
        lambda client, session: client.send(session, "x", connection=no_pair),
    ]

    async def refused() -> list[str]:
        async with AsyncClient(database_url=system.database_url) as client:
            session = await client.sessions.create(user_id="ada")
            codes = []
            for call in calls:
                with pytest.raises(InvalidInput) as caught:
                    await call(client, session)
                codes.append(caught.value.code)
            assert [one async for one in client.sessions.history(session)] == []
            return codes

    assert asyncio.run(refused()) == ["invalid_input"] * len(calls)


def test_a_provider_that_nobody_has_is_not_paused(client: Client) -> None:
    with pytest.raises(InvalidInput, match="neither installed") as caught:
        client.lanes.pause(provider="opneai")
    assert "in use: " in caught.value.hint and "mock" in caught.value.hint
    assert client.lanes.paused().providers == frozenset()
    client.lanes.pause(provider="of-tomorrow", force=True)
    client.lanes.resume(provider="of-tomorrow")


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
