"""The turns of a session run one at a time, in the order in which they were sent."""

from itertools import pairwise

from turnmill import Client

WAIT = 60


def test_twenty_messages_fired_at_once_are_answered_in_order(client: Client) -> None:
    session = client.sessions.create(user_id="ada")
    turns = [client.send(session, f"message {n}") for n in range(20)]
    replies = [turn.result(timeout=WAIT) for turn in turns]
    assert [f"[{2 * n} before]" in reply.text for n, reply in enumerate(replies)] == [True] * 20


def test_no_two_turns_of_a_session_overlap(client: Client) -> None:
    session = client.sessions.create(user_id="ada", settings={"mock": {"latency": 0.05}})
    turns = [client.send(session, f"message {n}") for n in range(8)]
    attempts = [turn.result(timeout=WAIT).attempts[0] for turn in turns]
    for earlier, later in pairwise(attempts):
        assert earlier.ended_at is not None
        assert earlier.ended_at <= later.started_at


def test_a_turn_that_is_retried_holds_the_line_of_its_session(client: Client) -> None:
    session = client.sessions.create(user_id="ada")
    slow = client.send(session, "stumbles", metadata={"mock": {"faults": ["overloaded"]}})
    quick = client.send(session, "waits")
    assert slow.result(timeout=WAIT).attempts[-1].ended_at is not None
    reply = quick.result(timeout=WAIT)
    assert "[2 before]" in reply.text
    assert reply.attempts[0].started_at >= slow.refresh().record.finished_at  # type: ignore[operator]


def test_sessions_do_not_wait_for_each_other(client: Client) -> None:
    slow = client.sessions.create(user_id="ada")
    quick = client.sessions.create(user_id="bob")
    long_turn = client.send(slow, "long", metadata={"mock": {"latency": 600}})
    client.send(quick, "short").result(timeout=WAIT)
    assert long_turn.refresh().record.finished_at is None
    long_turn.cancel()


def test_a_failed_turn_is_left_out_of_the_history_that_the_provider_sees(client: Client) -> None:
    session = client.sessions.create(user_id="ada", max_attempts=1)
    client.send(session, "refused", metadata={"mock": {"faults": "rejected"}})
    reply = client.send(session, "next").result(timeout=WAIT)
    assert "[0 before]" in reply.text
