"""Temporary errors are tried again, permanent ones are not, and every attempt is kept."""

from datetime import timedelta

import pytest

from turnmill import Client, TurnDead, TurnFailed

WAIT = 60


def test_a_turn_that_fails_twice_succeeds_at_the_third_attempt(client: Client) -> None:
    session = client.sessions.create(user_id="ada")
    faults = ["rate_limited", "overloaded", "ok"]
    turn = client.send(session, "third time lucky", metadata={"mock": {"faults": faults}})
    attempts = turn.result(timeout=WAIT).attempts
    assert [one.outcome for one in attempts] == ["retrying", "retrying", "succeeded"]
    assert [one.error_code for one in attempts] == ["rate_limited", "overloaded", None]


def test_the_wait_that_a_provider_asks_for_is_a_floor(client: Client) -> None:
    session = client.sessions.create(user_id="ada")
    script = {"faults": ["rate_limited", "ok"], "retry_after": 2}
    first, second = (
        client.send(session, "slow down", metadata={"mock": script}).result(timeout=WAIT).attempts
    )
    assert first.ended_at is not None
    assert second.started_at - first.ended_at >= timedelta(seconds=2)


def test_a_permanent_error_fails_at_once_with_its_code(client: Client) -> None:
    session = client.sessions.create(user_id="ada")
    turn = client.send(session, "no", metadata={"mock": {"faults": "rejected"}})
    with pytest.raises(TurnFailed) as caught:
        turn.result(timeout=WAIT)
    assert caught.value.error_code == turn.refresh().record.error_code
    assert len(turn.attempts()) == 1


def test_a_turn_is_dead_when_its_attempts_are_used_up(client: Client) -> None:
    session = client.sessions.create(user_id="ada", max_attempts=2)
    turn = client.send(session, "hopeless", metadata={"mock": {"faults": "overloaded"}})
    with pytest.raises(TurnDead):
        turn.result(timeout=WAIT)
    assert [one.outcome for one in turn.attempts()] == ["retrying", "dead"]


def test_a_dead_turn_can_be_retried(client: Client) -> None:
    session = client.sessions.create(user_id="ada", max_attempts=1)
    turn = client.send(session, "again", metadata={"mock": {"faults": ["overloaded"]}})
    with pytest.raises(TurnDead):
        turn.result(timeout=WAIT)
    again = turn.retry()
    assert again.id == turn.id  # in place: nothing after it has started
    with pytest.raises(TurnDead):
        again.result(timeout=WAIT)  # the script fails it again


def test_a_dead_turn_that_others_have_overtaken_is_retried_at_the_end(client: Client) -> None:
    session = client.sessions.create(user_id="ada", max_attempts=1)
    dead = client.send(session, "first", metadata={"mock": {"faults": ["overloaded"]}})
    client.send(session, "second").result(timeout=WAIT)
    again = dead.retry()
    assert again.id != dead.id
    assert again.refresh().record.retry_of == dead.id


def test_a_reply_that_got_lost_on_its_way_is_adopted_not_paid_twice(client: Client) -> None:
    session = client.sessions.create(user_id="ada")
    turn = client.send(session, "cut", metadata={"mock": {"faults": ["cut", "ok"]}})
    attempts = turn.result(timeout=WAIT).attempts
    assert [one.kind for one in attempts[:2]] == ["send", "check"]


def test_a_provider_that_nobody_installed_is_a_clear_failure(client: Client) -> None:
    session = client.sessions.create(user_id="ada", provider="nonesuch", model="m")
    with pytest.raises(TurnFailed) as caught:
        client.send(session, "anybody there?").result(timeout=WAIT)
    assert caught.value.error_code == "provider_unknown"


def test_a_session_may_pause_when_a_turn_failed(client: Client) -> None:
    session = client.sessions.create(user_id="ada", on_failure="pause")
    with pytest.raises(TurnFailed):
        client.send(session, "no", metadata={"mock": {"faults": "rejected"}}).result(timeout=WAIT)
    waiting = client.send(session, "later")
    assert client.sessions.get(session).status == "paused"
    client.sessions.resume(session)
    assert waiting.result(timeout=WAIT).text
