"""Whoever watches a turn hears which tools its model calls, and what they come to."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from turnmill import Client, Settings, Turn, TurnState, tool
from turnmill.domain.streaming import StreamEvent, StreamKind
from turnmill.testing import script
from turnmill_worker.stack.process import wait_until

WITHIN = 20
OUTSIDE = {
    "name": "weather",
    "description": "What the weather is like.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CALL = ("weather", {"city": "Rome"})
STARTS = (StreamKind.ATTEMPT_STARTED, StreamKind.ATTEMPT_RESTARTED)


@tool
def weather(city: str) -> str:
    """Tell what the weather is like."""
    return f"21 degrees in {city}"


@pytest.fixture
def client() -> Iterator[Client]:
    settings = Settings(database_url="sqlite://", tools=f"{__name__}:weather")
    with Client(settings=settings) as client:
        yield client


def ask(client: Client, tools: list[Any]) -> Turn:
    session = client.sessions.create(user_id="ada", tools=tools)
    return client.send(session, "How is it?", stream=True, metadata=script(calls=[CALL]))


def last_attempt(events: list[StreamEvent]) -> str:
    """Return the text of the last attempt: what readers hold in the end."""
    begun = max(n for n, event in enumerate(events) if event.kind in STARTS)
    return "".join(event.text for event in events[begun:])


def test_a_reader_hears_of_a_call_of_its_output_and_of_the_reply(client: Client) -> None:
    turn = ask(client, ["weather"])
    events = list(turn.stream(timeout=WITHIN))
    told = [event.kind for event in events if event.kind is not StreamKind.DELTA]
    assert told == [
        StreamKind.ATTEMPT_STARTED,
        StreamKind.TOOL_CALL,
        StreamKind.TOOL_OUTPUT,
        StreamKind.ATTEMPT_STARTED,
        StreamKind.ENDED,
    ]
    (output,) = [event.output for event in events if event.output is not None]
    assert output.output == "21 degrees in Rome"
    assert last_attempt(events) == turn.result(timeout=WITHIN).text


def test_a_reader_hears_what_somebody_outside_has_answered(client: Client) -> None:
    turn = ask(client, [OUTSIDE])
    assert wait_until(
        lambda: turn.refresh().state is TurnState.WAITING, timeout=timedelta(seconds=WITHIN)
    )
    (call,) = turn.tool_calls()
    turn.submit_tool_outputs({call.call_id: "19 degrees"})
    events = list(turn.stream(timeout=WITHIN))
    assert [event.call.name for event in events if event.call is not None] == ["weather"]
    assert [event.output.output for event in events if event.output] == ["19 degrees"]
    assert last_attempt(events) == turn.result(timeout=WITHIN).text
    assert events[-1].state is TurnState.SUCCEEDED
