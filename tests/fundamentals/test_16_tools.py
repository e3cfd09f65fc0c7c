"""A model may call functions of the application's own, and go on with what they return."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.talking import installed
from turnmill import Client, ToolCall, ToolContext, ToolError, ToolOutput, Turn, tool
from turnmill.settings import Settings


@tool(effects="none")
def weather(city: str) -> str:
    """Tell the weather."""
    return f"sunny in {city}"


@tool(effects="idempotent")
async def book(seats: int, context: ToolContext) -> dict[str, Any]:
    """Book seats."""
    if seats > 3:
        raise ToolError("there are three seats left")
    return {"seats": seats, "for": context.user_id, "key": context.idempotency_key}


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A store in memory, the tools of this page, and a model that calls what it is told to."""
    monkeypatch.syspath_prepend(installed(tmp_path))
    with Client(settings=Settings(database_url="sqlite://", tools=__name__)) as client:
        yield client


def ask(client: Client, *rounds: list[list[Any]]) -> Turn:
    """Let the model make these calls, one round after the other."""
    session = client.sessions.create(
        user_id="ada", provider="talking", settings={"tools": ["weather", "book"]}
    )
    return client.send(session, "Plan my day.", metadata={"calls": rounds})


def outputs(turn: Turn) -> list[str]:
    told: list[str] = json.loads(turn.result(timeout=30).text)["outputs"]
    return told


def test_a_turn_with_tools_is_one_turn_and_ends_with_one_reply(client: Client) -> None:
    turn = ask(client, [["weather", {"city": "Rome"}], ["weather", {"city": "Oslo"}]])
    assert outputs(turn) == ["sunny in Rome", "sunny in Oslo"]
    assert [one.role for one in turn.messages()] == [
        *("user", "assistant", "tool", "tool", "assistant"),
    ]


def test_calls_and_outputs_stand_in_the_history(client: Client) -> None:
    turn = ask(client, [["weather", {"city": "Rome"}]])
    turn.result(timeout=30)
    called, told = (message.parts[0] for message in turn.messages()[1:3])
    assert isinstance(called, ToolCall)
    assert isinstance(told, ToolOutput)
    assert (called.name, json.loads(called.arguments)) == ("weather", {"city": "Rome"})
    assert (told.call_id, told.output) == (called.id, "sunny in Rome")


def test_each_model_call_is_a_step_with_attempts_of_its_own(client: Client) -> None:
    turn = ask(client, [["weather", {"city": "Rome"}]], [["weather", {"city": "Oslo"}]])
    turn.result(timeout=30)
    assert [(one.step, one.outcome) for one in turn.attempts()] == [
        (1, "called"),
        (2, "called"),
        (3, "succeeded"),
    ]
    assert turn.refresh().record.attempt == 1


def test_a_tool_knows_whose_call_it_is_and_has_a_key_that_stays(client: Client) -> None:
    turn = ask(client, [["book", {"seats": 2}]])
    (booked,) = map(json.loads, outputs(turn))
    assert booked == {"seats": 2, "for": "ada", "key": f"{turn.id}:2"}


def test_what_goes_wrong_is_told_to_the_model_which_may_try_something_else(client: Client) -> None:
    turn = ask(client, [["book", {"seats": 5}], ["book", {"chairs": 1}]], [["book", {"seats": 3}]])
    too_many, not_so, booked = outputs(turn)
    assert too_many == "there are three seats left"
    assert "seats: Field required" in not_so
    assert json.loads(booked)["seats"] == 3


def test_a_tool_is_still_a_function() -> None:
    assert weather("Rome") == "sunny in Rome"
