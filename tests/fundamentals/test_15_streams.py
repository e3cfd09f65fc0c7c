"""A reply can be watched while it comes; whoever was away goes on where he was."""

import pytest

from turnmill import Client, InvalidInput, StreamKind, TurnFailed
from turnmill.testing import script

WITHIN = 30


def test_the_deltas_of_a_streamed_turn_are_its_reply(client: Client) -> None:
    session = client.sessions.create(user_id="ada", provider="mock")
    turn = client.send(session, "Hello", stream=True)
    events = list(turn.stream(timeout=WITHIN))
    kinds = [event.kind for event in events]
    assert kinds[0] == "attempt_started"
    assert set(kinds[1:-1]) == {"delta"}
    assert kinds[-1] == "ended"
    assert events[-1].state == "succeeded"
    assert "".join(event.text for event in events) == turn.result(timeout=WITHIN).text


def test_an_event_has_an_id_behind_which_another_reader_goes_on(client: Client) -> None:
    session = client.sessions.create(user_id="ada", provider="mock")
    turn = client.send(session, "Hello", stream=True)
    events = list(turn.stream(timeout=WITHIN))
    elsewhere = client.turns.get(turn.id)
    for place, event in enumerate(events[:-1], 1):
        assert list(elsewhere.stream(after=event.id, timeout=WITHIN)) == events[place:]


def test_of_a_turn_that_nobody_asked_to_stream_the_whole_comes_at_its_end(client: Client) -> None:
    session = client.sessions.create(user_id="ada", provider="mock")
    turn = client.send(session, "Hello")
    started, delta, ended = turn.stream(timeout=WITHIN)
    assert (started.kind, ended.kind) == ("attempt_started", "ended")
    assert delta.text == turn.result(timeout=WITHIN).text


def test_when_an_attempt_has_failed_a_reader_forgets_what_it_said(client: Client) -> None:
    session = client.sessions.create(user_id="ada", provider="mock")
    metadata = script(faults=["overloaded", "ok"])
    turn = client.send(session, "Hello", stream=True, metadata=metadata)
    text = ""
    attempts = []
    for event in turn.stream(timeout=WITHIN):
        if event.kind in (StreamKind.ATTEMPT_STARTED, StreamKind.ATTEMPT_RESTARTED):
            text = ""
            attempts.append(event.attempt)
        text += event.text
    assert text == turn.result(timeout=WITHIN).text
    assert attempts == [1, 2]


def test_a_turn_without_a_reply_ends_its_stream_with_its_state(client: Client) -> None:
    session = client.sessions.create(user_id="ada", provider="mock")
    turn = client.send(session, "Hello", stream=True, metadata=script(faults="rejected"))
    *_, ended = turn.stream(timeout=WITHIN)
    assert (ended.kind, ended.state) == ("ended", "failed")
    with pytest.raises(TurnFailed) as refused:
        turn.result(timeout=WITHIN)
    assert ended.error_code == refused.value.error_code


def test_a_turn_that_never_ran_ends_its_stream_too(client: Client) -> None:
    session = client.sessions.create(user_id="ada", provider="mock")
    client.sessions.pause(session)
    turn = client.send(session, "Hello", stream=True)
    turn.cancel()
    assert [event.state for event in turn.stream(timeout=WITHIN)] == ["cancelled"]


def test_whoever_stops_reading_cancels_nothing(client: Client) -> None:
    session = client.sessions.create(user_id="ada", provider="mock")
    turn = client.send(session, "Hello", stream=True)
    for _ in turn.stream(timeout=WITHIN):
        break
    assert turn.result(timeout=WITHIN).text


def test_what_is_no_id_is_refused(client: Client) -> None:
    turn = client.send(client.sessions.create(user_id="ada", provider="mock"), "Hello")
    with pytest.raises(InvalidInput):
        turn.stream(after="the third one")


def test_many_messages_at_once_are_not_streamed(client: Client) -> None:
    session = client.sessions.create(user_id="ada", provider="mock")
    with pytest.raises(InvalidInput):
        client.send_many([(session, "Hello")], stream=True)  # type: ignore[call-arg]
