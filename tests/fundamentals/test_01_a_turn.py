"""A session, a message, a reply: the smallest use of Turnmill."""

from datetime import timedelta

from tests.fundamentals.conftest import System
from turnmill import Client, TurnState

WAIT = 30


def test_a_message_sent_to_a_session_is_answered(client: Client) -> None:
    session = client.sessions.create(user_id="ada", provider="mock", model="mock")
    turn = client.send(session, "Hello")
    assert "Hello" in turn.result(timeout=WAIT).text


def test_send_returns_before_the_provider_has_answered(client: Client) -> None:
    session = client.sessions.create(user_id="ada")
    turn = client.send(session, "Take your time", metadata={"mock": {"latency": 1.0}})
    assert turn.refresh().state in {TurnState.QUEUED, TurnState.RUNNING}
    assert turn.result(timeout=WAIT).timing.provider >= timedelta(seconds=0.9)


def test_a_reply_tells_what_it_used_and_how_long_it_took(client: Client) -> None:
    session = client.sessions.create(user_id="ada")
    reply = client.send(session, "Count me").result(timeout=WAIT)
    assert reply.usage.input_tokens
    assert reply.usage.output_tokens
    assert reply.finish_reason == "stop"
    assert timedelta(0) <= reply.timing.queued <= reply.timing.total


def test_a_model_without_a_known_price_has_no_cost_rather_than_none_to_pay(client: Client) -> None:
    session = client.sessions.create(user_id="ada", provider="mock", model="mock")
    assert client.send(session, "How much?").result(timeout=WAIT).cost_usd is None


def test_the_history_holds_both_sides_in_order(client: Client) -> None:
    session = client.sessions.create(user_id="ada")
    for text in ("one", "two"):
        client.send(session, text).result(timeout=WAIT)
    history = list(client.sessions.history(session))
    assert [message.role for message in history] == ["user", "assistant"] * 2
    assert [message.text for message in history if message.role == "user"] == ["one", "two"]


def test_a_turn_can_be_found_again_by_its_id(client: Client) -> None:
    session = client.sessions.create(user_id="ada")
    turn = client.send(session, "Remember me")
    found = client.turns.get(str(turn.id))
    assert found.result(timeout=WAIT).turn_id == turn.id


def test_another_process_goes_on_where_the_first_one_stopped(
    client: Client, system: System
) -> None:
    session = client.sessions.create(user_id="ada", key="ada:continued")
    client.send(session, "first").result(timeout=WAIT)
    with Client(database_url=system.database_url, broker_url=system.broker_url) as other:
        reply = other.send("ada:continued", "second").result(timeout=WAIT)
    assert "[2 before]" in reply.text


def test_a_key_stands_for_one_session(client: Client) -> None:
    first = client.sessions.create(user_id="ada", key="ada:support")
    again = client.sessions.create(user_id="ada", key="ada:support")
    assert first.id == again.id
