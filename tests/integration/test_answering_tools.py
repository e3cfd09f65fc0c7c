"""A model asks for what only somebody outside has: docs/tool-approvals.md, as it stands."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import turnmill
from tests import steps
from tests.acceptance.pages import blocks_of
from tests.talking import Talking
from turnmill import Client, MoveRefused, Settings, TurnCancelled, TurnState
from turnmill.domain.states import ToolCallState
from turnmill.testing import memory_client, script
from turnmill_worker.providers.port import Done, Emit, Request, Running
from turnmill_worker.providers.registry import ProviderRegistry
from turnmill_worker.stack.process import wait_until

PAGE = Path(__file__).parents[2] / "docs" / "tool-approvals.md"
SOON = timedelta(seconds=20)
ASKED = ["ask_traveller", {"question": "When?"}]
#: What the model calls, step by step.
TRIP = [
    [["find_flights", {"city": "Rome"}], ASKED],
    [["book_flight", {"euros": 150}], ["book_flight", {"euros": 900}]],
]


@turnmill.tool(effects="none")
def find_flights(city: str) -> list[str]:
    """Find flights."""
    return [f"TM1 to {city}"]


@turnmill.tool(effects="at_most_once")
def book_flight(euros: int) -> str:
    """Book a flight."""
    return f"booked for {euros}"


class Travelling(Talking):
    """Calls what a trip needs."""

    async def send(self, request: Request, emit: Emit | None = None) -> Done | Running:
        return await super().send(replace(request, metadata={"calls": TRIP}), emit)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    model = Travelling()
    monkeypatch.setattr(ProviderRegistry, "get", lambda self, name: model)
    with Client(settings=Settings(database_url="sqlite://", tools=__name__)) as made:
        yield made
        steps.assert_sound(made._executor.database)


@pytest.fixture
def told(client: Client) -> dict[str, Any]:
    """Return what a program knows that has run the first block of the page."""
    known: dict[str, Any] = {"client": client}
    run(0, known)
    assert wait_until(lambda: known["turn"].refresh().state == "waiting", timeout=SOON)
    return known


def run(number: int, known: dict[str, Any]) -> None:
    exec(compile(python()[number], str(PAGE), "exec"), known)


def python() -> list[str]:
    return [one.text for one in blocks_of(PAGE) if one.language == "python"]


def test_the_page_is_one_program_in_which_somebody_answers_approves_and_rejects(
    told: dict[str, Any], client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    turn = told["turn"]
    assert turn.record.waits_for == "tool"
    run(1, told)
    assert "ask_traveller When?" in capsys.readouterr().out
    assert wait_until(lambda: turn.refresh().record.waits_for == "approval", timeout=SOON)
    run(2, told)
    assert json.loads(turn.result(timeout=SOON).text)["outputs"] == [
        '["TM1 to Rome"]',
        "on Friday",
        "booked for 150",
        "refused: too dear",
    ]
    done = {one.output: one.state for one in turn.effects()}
    assert done == {"on Friday": ToolCallState.DONE, "booked for 150": ToolCallState.DONE}
    assert [one.decided_by for one in turn.tool_calls()] == [None, None, "desk-3", "desk-3"]
    assert client.turns.waiting_calls() == []
    assert len(python()) == 3


def test_a_turn_goes_on_as_soon_as_it_is_answered(told: dict[str, Any]) -> None:
    run(1, told)
    began = time.monotonic()
    assert wait_until(lambda: told["turn"].refresh().record.waits_for == "approval", timeout=SOON)
    assert (
        time.monotonic() - began < 10
    )  # and not at the next look for what is due, or at an expiry


def test_a_cancelled_turn_takes_no_answer_and_the_session_goes_on(
    told: dict[str, Any], client: Client
) -> None:
    turn = told["turn"]
    (asked,) = [one for one in turn.tool_calls() if one.waits_for]
    assert turn.cancel() is TurnState.CANCELLED
    with pytest.raises(MoveRefused, match="cancelled"):
        turn.submit_tool_outputs({asked.call_id: "on Friday"})
    with pytest.raises(TurnCancelled):
        turn.result(timeout=0)
    again = client.send(told["session"], "Book a flight to Rome")
    assert wait_until(lambda: again.refresh().state == "waiting", timeout=SOON)


def test_tools_of_a_session_are_changed_beside_its_other_settings(client: Client) -> None:
    session = client.sessions.create(
        user_id="ada", settings={"temperature": 0.5}, tools=[find_flights], max_tool_rounds=3
    )
    changed = client.sessions.update(session, tools=[book_flight], max_tool_rounds=None)
    assert changed.settings == {"temperature": 0.5, "tools": ["book_flight"]}
    assert client.sessions.update(session, tools=None).settings == {"temperature": 0.5}
    both = client.sessions.update(session, settings={"seed": 1}, on_context_full="truncate")
    assert both.settings == {"seed": 1, "on_context_full": "truncate"}
    with pytest.raises(turnmill.InvalidInput):
        client.sessions.update(session, tools=["two words"])
    assert client.sessions.get(session).settings == both.settings


@turnmill.tool(effects="none", approval=True)
def cancel_flight(number: str) -> str:
    """Cancel a flight."""
    return f"{number} is cancelled"


def test_who_reads_along_sees_the_model_go_on_after_an_approval_and_nothing_void() -> None:
    calls = script(calls=[(cancel_flight, {"number": "TM1"})], chunks=["Done: ", "{outputs}"])
    with memory_client(tools=[cancel_flight]) as client, ThreadPoolExecutor(1) as reader:
        session = client.sessions.create(user_id="ada", tools=[cancel_flight])
        turn = client.send(session, "I stay.", metadata=calls, stream=True)
        events = reader.submit(lambda: list(turn.stream(timeout=20)))
        assert wait_until(lambda: turn.refresh().record.waits_for == "approval", timeout=SOON)
        turn.approve(turn.tool_calls()[0].call_id)
        kinds = [str(one.kind) for one in events.result(timeout=20)]
        assert turn.result(timeout=20).text == "Done: cancel_flight: TM1 is cancelled"
    begun = [one for one in kinds if one.startswith("attempt")]
    assert begun == ["attempt_started", "attempt_started"]
    assert (kinds.count("tool_call"), kinds.count("tool_output")) == (1, 1)
