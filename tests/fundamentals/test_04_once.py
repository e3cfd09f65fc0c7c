"""A message is accepted once, however often it is sent, and only if the caller commits."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import create_engine

from tests.fundamentals.conftest import System
from turnmill import Client, IdempotencyConflict, TurnNotFound, TurnState, WrongIsolation

WAIT = 30


def test_sending_again_with_the_same_key_returns_the_turn_that_exists(client: Client) -> None:
    session = client.sessions.create(user_id="ada")
    first = client.send(session, "once", idempotency_key="ticket-1")
    again = client.send(session, "once", idempotency_key="ticket-1")
    assert (again.id, again.created) == (first.id, False)


def test_a_key_still_stands_for_its_turn_after_the_reply(client: Client) -> None:
    session = client.sessions.create(user_id="ada")
    reply = client.send(session, "once", idempotency_key="k").result(timeout=WAIT)
    again = client.send(session, "once", idempotency_key="k")
    assert again.result(timeout=WAIT) == reply


def test_the_same_key_for_other_words_is_a_conflict(client: Client) -> None:
    session = client.sessions.create(user_id="ada")
    client.send(session, "these words", idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        client.send(session, "other words", idempotency_key="k")


def test_a_message_in_my_transaction_is_sent_when_i_commit(client: Client, system: System) -> None:
    session = client.sessions.create(user_id="ada")
    engine = create_engine(system.database_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as mine:
        turn = client.send(session, "with my rows", connection=mine)
        with pytest.raises(TurnNotFound):
            client.turns.get(turn.id)
    assert "with my rows" in turn.result(timeout=WAIT).text
    engine.dispose()


def test_a_message_in_my_transaction_is_gone_when_i_roll_back(
    client: Client, system: System
) -> None:
    session = client.sessions.create(user_id="ada")
    engine = create_engine(system.database_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as mine:
        client.send(session, "never mind", connection=mine)
        mine.rollback()
    assert list(client.sessions.history(session)) == []
    engine.dispose()


def test_a_frozen_snapshot_is_refused(client: Client, system: System) -> None:
    session = client.sessions.create(user_id="ada")
    engine = create_engine(
        system.database_url.replace("postgresql://", "postgresql+psycopg://"),
        isolation_level="REPEATABLE READ",
    )
    with engine.connect() as mine, pytest.raises(WrongIsolation):
        client.send(session, "too strict", connection=mine)
    engine.dispose()


def test_a_message_may_be_sent_for_later(client: Client) -> None:
    session = client.sessions.create(user_id="ada")
    later = datetime.now(UTC) + timedelta(seconds=1.5)
    turn = client.send(session, "not yet", deliver_at=later)
    assert turn.refresh().state is TurnState.QUEUED
    assert turn.result(timeout=WAIT).attempts[0].started_at >= later
