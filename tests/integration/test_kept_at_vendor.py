"""From `send` to the vendor's storage and out of it again, with the vendor's stand-in."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from tests import steps
from tests.doubles.on_a_thread import Vendor
from tests.openai_sessions import vendor_at_hand
from tests.waiting import until
from turnmill import Client, TurnCancelled, TurnExpired, TurnFailed, TurnState
from turnmill.domain.ids import SessionId
from turnmill.store import kept
from turnmill.store.database import Database
from turnmill.store.schema.kept_tables import kept_refs
from turnmill.store.schema.tables import attempts
from turnmill.store.schema.tables import turns as turn_rows
from turnmill.sync.turns import Turn

WAIT = 20
CANARY = "CANARY-51c0"
BACKGROUND = {"background": True}
HOUR = timedelta(hours=1)


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vendor]:
    with vendor_at_hand(monkeypatch) as vendor:
        yield vendor


@pytest.fixture
def client(vendor: Vendor, tmp_path: Path) -> Iterator[Client]:
    from turnmill.store.schema import migrate

    url = f"sqlite:///{tmp_path / 'turns.db'}"
    migrate.upgrade(url)
    with Client(database_url=url) as client:
        yield client


@pytest.fixture
def store(client: Client) -> Database:
    return client._executor.database


def start(client: Client, **settings: Any) -> SessionId:
    session = client.sessions.create(
        user_id="ada", provider="openai", model="gpt-5-mini", settings=settings
    )
    return session.id


def talk(client: Client, session: SessionId, turns: int) -> None:
    for number in range(turns):
        client.send(session, f"{CANARY} {number}").result(timeout=WAIT)


def asked_again(store: Database, turn: Turn) -> None:
    """Let the turn be looked up once more, without the pause before it.

    Until that has begun it stands as before: whoever wants to know what came of it waits for that.
    """
    until(lambda: steps.turn(store, turn.id).state is TurnState.WAITING)
    steps.due_now(store, turn.id)


def has_been_asked(turn: Turn, times: int) -> bool:
    """Tell whether the turn's work was looked up so many times, and waits again."""
    ended = [one.polls for one in turn.attempts() if one.outcome in {"waiting", "unanswered"}]
    return ended == [times]


def nothing_is_owed(store: Database) -> bool:
    with store.begin() as conn:
        return not kept.backlog(conn)


@pytest.mark.parametrize("verb", ["archive", "delete"])
def test_a_chain_of_nine_turns_is_gone_at_the_vendor_when_its_session_is(
    vendor: Vendor, client: Client, store: Database, verb: str
) -> None:
    session, other = start(client), start(client)
    talk(client, session, 9)
    client.send(other, "stays").result(timeout=WAIT)
    assert len(vendor.double.kept) == 10
    assert CANARY in vendor.stored_text()
    getattr(client.sessions, verb)(session)
    until(lambda: len(vendor.double.kept) == 1)
    assert CANARY not in vendor.stored_text()
    until(lambda: nothing_is_owed(store))


def test_a_history_that_we_hold_leaves_nothing_at_the_vendor(
    vendor: Vendor, client: Client, store: Database
) -> None:
    talk(client, start(client, thread="client"), 2)
    assert vendor.double.kept == {}
    with store.begin() as conn:
        assert conn.execute(kept_refs.select()).all() == []


def test_a_vendor_that_is_away_or_refuses_is_asked_until_all_is_gone(
    vendor: Vendor, client: Client, store: Database
) -> None:
    session = start(client)
    talk(client, session, 3)
    vendor.double.meet("bad_key", "rate_limited", "server_error")
    client.sessions.delete(session)
    until(lambda: len(vendor.requests("DELETE")) >= 3)
    until(lambda: _tried(store) == 3)
    with store.begin() as conn:
        (owed,) = kept.backlog(conn)
        conn.execute(update(kept_refs).values(due_at=datetime.now(UTC)))
    assert (owed.provider, owed.count) == ("openai", 3)
    assert owed.error_code in {"invalid_api_key", "rate_limit_exceeded", "server_error"}


def _tried(store: Database) -> int:
    with store.begin() as conn:
        return sum(one.error_code is not None for one in conn.execute(kept_refs.select()))


@pytest.mark.parametrize("looked_up", [0, 1])
def test_a_cancelled_turn_is_cancelled_at_the_vendor_and_deleted_there(
    vendor: Vendor, client: Client, store: Database, looked_up: int
) -> None:
    vendor.double.meet("slow")
    turn = client.send(start(client, **BACKGROUND), CANARY)
    for _ in range(looked_up):
        asked_again(store, turn)
    until(lambda: has_been_asked(turn, looked_up))
    assert turn.cancel() == "cancelled"
    until(lambda: vendor.double.kept == {})
    assert len(vendor.requests("POST", "/cancel")) == 1
    with pytest.raises(TurnCancelled):
        turn.result(timeout=WAIT)


def test_a_turn_cancelled_while_it_is_looked_up_is_cancelled_at_the_vendor_too(
    vendor: Vendor, client: Client, store: Database
) -> None:
    vendor.double.meet("slow", "hang")
    turn = client.send(start(client, **BACKGROUND), CANARY)
    asked_again(store, turn)
    until(lambda: vendor.requests("GET"))
    turn.cancel()
    with pytest.raises(TurnCancelled):
        turn.result(timeout=WAIT)
    until(lambda: vendor.double.kept == {})
    assert len(vendor.requests("POST", "/cancel")) == 1


def test_a_turn_cancelled_while_its_work_begins_is_cancelled_at_the_vendor_too(
    vendor: Vendor, client: Client
) -> None:
    vendor.double.latency = 0.5
    vendor.double.meet("slow")
    turn = client.send(start(client, **BACKGROUND), CANARY)
    until(lambda: vendor.requests("POST"))
    turn.cancel()
    with pytest.raises(TurnCancelled):
        turn.result(timeout=WAIT)
    until(lambda: vendor.requests("POST", "/cancel") and vendor.double.kept == {})


def test_work_of_a_deleted_session_is_cancelled_at_the_vendor(
    vendor: Vendor, client: Client, store: Database
) -> None:
    vendor.double.meet("slow")
    session = start(client, **BACKGROUND)
    turn = client.send(session, CANARY)
    until(lambda: turn.refresh().state == "waiting")
    client.sessions.delete(session)
    until(lambda: vendor.double.kept == {})
    assert len(vendor.requests("POST", "/cancel")) == 1


@pytest.mark.parametrize("fault", ["bad_key", "rate_limited", "server_error", "cut", "bad_json"])
def test_a_question_that_is_not_answered_never_loses_what_was_paid(
    vendor: Vendor, client: Client, store: Database, fault: str
) -> None:
    vendor.double.meet("ok", fault)
    turn = client.send(start(client, **BACKGROUND), "Hello")
    asked_again(store, turn)
    until(lambda: has_been_asked(turn, 1))
    if fault in ("bad_key", "rate_limited"):  # which closes the account, for questions too
        client.accounts.open(provider="openai")
    asked_again(store, turn)
    assert turn.result(timeout=WAIT).text == "echo: Hello [0 before]"
    (attempt,) = turn.attempts()
    assert (attempt.kind, attempt.outcome) == ("send", "succeeded")
    assert attempt.polls >= 2  # once more where a closed account put a question off
    assert turn.refresh().record.attempt == 1
    assert vendor.requests("POST") == ["/v1/responses"]


def test_work_that_failed_for_now_is_sent_again_and_says_why(
    vendor: Vendor, client: Client, store: Database
) -> None:
    vendor.double.meet("failed:rate_limit_exceeded")
    turn = client.send(start(client, **BACKGROUND), "Hello")
    asked_again(store, turn)
    until(lambda: turn.refresh().record.attempt == 2)
    asked_again(store, turn)
    turn.result(timeout=WAIT)
    first, second = turn.attempts()
    assert (first.outcome, first.error_code) == ("retrying", "rate_limit_exceeded")
    assert first.error_detail == "Scripted."
    assert second.outcome == "succeeded"
    until(lambda: len(vendor.double.kept) == 1)  # the failed one, which held the text, is gone


def test_work_that_failed_for_good_fails_its_turn_with_the_vendors_code(
    vendor: Vendor, client: Client, store: Database
) -> None:
    vendor.double.meet("failed:invalid_prompt")
    turn = client.send(start(client, **BACKGROUND), "Hello")
    asked_again(store, turn)
    with pytest.raises(TurnFailed) as caught:
        turn.result(timeout=WAIT)
    assert caught.value.error_code == "invalid_prompt"


def test_work_that_the_vendor_has_lost_is_sent_again(
    vendor: Vendor, client: Client, store: Database
) -> None:
    turn = client.send(start(client, **BACKGROUND), "Hello")
    until(lambda: turn.refresh().state == "waiting")
    vendor.double.forget()
    asked_again(store, turn)
    until(lambda: len(vendor.requests("POST", "/responses")) == 2)
    asked_again(store, turn)
    assert turn.result(timeout=WAIT).text == "echo: Hello [0 before]"
    assert len(vendor.requests("POST", "/responses")) == 2


@pytest.mark.parametrize(
    ("waited", "expires", "error", "code"),
    [
        (24 * HOUR, None, TurnFailed, "background_timeout"),
        (HOUR, -timedelta(seconds=1), TurnExpired, "expired"),
    ],
)
def test_what_takes_too_long_ends_and_is_cancelled_at_the_vendor(
    vendor: Vendor,
    client: Client,
    store: Database,
    waited: timedelta,
    expires: timedelta | None,
    error: type[Exception],
    code: str,
) -> None:
    vendor.double.meet("slow")
    turn = client.send(start(client, **BACKGROUND), CANARY)
    until(lambda: turn.refresh().state == "waiting")
    with store.begin() as conn:
        conn.execute(update(attempts).values(started_at=datetime.now(UTC) - waited))
        if expires is not None:
            moment = datetime.now(UTC) + expires
            conn.execute(update(turn_rows).values(expires_at=moment))
    asked_again(store, turn)
    with pytest.raises(error) as caught:
        turn.result(timeout=WAIT)
    assert getattr(caught.value, "error_code", "") == code
    until(lambda: vendor.double.kept == {})
    assert len(vendor.requests("POST", "/cancel")) == 1
