"""Turns can be cancelled and expire; sessions are paused, archived and deleted."""

from datetime import UTC, datetime, timedelta

import pytest

from turnmill import (
    Client,
    MoveRefused,
    SessionArchived,
    SessionNotFound,
    TurnCancelled,
    TurnExpired,
    TurnState,
)

WAIT = 30


def test_a_turn_that_waits_is_cancelled_at_once(client: Client) -> None:
    session = client.sessions.create(user_id="ada")
    client.sessions.pause(session)
    turn = client.send(session, "wait")
    assert turn.cancel() is TurnState.CANCELLED
    with pytest.raises(TurnCancelled):
        turn.result(timeout=WAIT)


def test_a_turn_that_runs_is_cut_short_when_it_is_cancelled(client: Client) -> None:
    session = client.sessions.create(user_id="ada")
    turn = client.send(session, "long", metadata={"mock": {"latency": 60}})
    while turn.refresh().state is not TurnState.RUNNING:
        pass
    turn.cancel()
    with pytest.raises(TurnCancelled):
        turn.result(timeout=WAIT)


def test_a_cancel_can_be_waited_for_and_what_was_used_is_estimated(client: Client) -> None:
    session = client.sessions.create(user_id="ada")
    turn = client.send(session, "long", metadata={"mock": {"latency": 60}})
    while turn.refresh().state is not TurnState.RUNNING:
        pass
    assert turn.cancel(wait=True, timeout=WAIT) is TurnState.CANCELLED
    assert all(one.estimated for one in turn.attempts() if one.input_tokens)


def test_a_turn_that_is_done_stays_so_when_it_is_cancelled(client: Client) -> None:
    turn = client.send(client.sessions.create(user_id="ada"), "quick")
    turn.result(timeout=WAIT)
    assert turn.cancel(wait=True) is TurnState.SUCCEEDED


def test_the_session_goes_on_after_a_cancelled_turn(client: Client) -> None:
    session = client.sessions.create(user_id="ada")
    long = client.send(session, "long", metadata={"mock": {"latency": 60}})
    following = client.send(session, "next")
    long.cancel()
    assert "[0 before]" in following.result(timeout=WAIT).text


def test_a_turn_expires_when_it_could_not_start_in_time(client: Client) -> None:
    session = client.sessions.create(user_id="ada")
    client.sessions.pause(session)
    turn = client.send(session, "now or never", expires=datetime.now(UTC) + timedelta(seconds=0.5))
    with pytest.raises(TurnExpired):
        turn.result(timeout=WAIT)


def test_a_paused_session_takes_messages_and_answers_them_when_resumed(client: Client) -> None:
    session = client.sessions.create(user_id="ada")
    client.sessions.pause(session)
    turn = client.send(session, "patience")
    assert turn.refresh().state is TurnState.QUEUED
    client.sessions.resume(session)
    assert turn.result(timeout=WAIT).text


def test_an_archived_session_keeps_its_history_and_refuses_messages(client: Client) -> None:
    session = client.sessions.create(user_id="ada")
    client.send(session, "hello").result(timeout=WAIT)
    client.sessions.archive(session)
    with pytest.raises(SessionArchived):
        client.send(session, "anybody?")
    assert len(list(client.sessions.history(session))) == 2


def test_a_session_with_open_turns_is_not_archived(client: Client) -> None:
    session = client.sessions.create(user_id="ada")
    client.send(session, "long", metadata={"mock": {"latency": 2}})
    with pytest.raises(MoveRefused):
        client.sessions.archive(session)


def test_a_deleted_session_is_gone_with_every_row(client: Client) -> None:
    session = client.sessions.create(user_id="ada")
    turn = client.send(session, "forget me")
    turn.result(timeout=WAIT)
    client.sessions.delete(session)
    with pytest.raises(SessionNotFound):
        client.sessions.get(session)
    assert client.turns.list(session=session.id) == []


def test_what_a_session_is_told_can_be_changed(client: Client) -> None:
    session = client.sessions.create(user_id="ada", system_prompt="Be brief.")
    changed = client.sessions.update(session, model="mock-2", system_prompt="Be kind.")
    assert (changed.model, changed.system_prompt) == ("mock-2", "Be kind.")


def test_sessions_of_a_user_are_listed_newest_first(client: Client) -> None:
    ids = [client.sessions.create(user_id="lister").id for _ in range(3)]
    assert [one.id for one in client.sessions.list(user_id="lister")] == ids[::-1]
