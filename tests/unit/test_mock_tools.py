"""The mock calls tools as it is told, and is as strict about their outputs as a vendor."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_mock_provider import a_request, answer, scripted
from turnmill.domain.content import Message, Part, Text, ToolCall, ToolOutput
from turnmill.domain.errors import InvalidInput, MaybeSent, Rejected
from turnmill.testing import script as told_by
from turnmill.tools import tool
from turnmill_worker.providers.anthropic import blocks as anthropic
from turnmill_worker.providers.mock.pairs import as_vendors_are_sent
from turnmill_worker.providers.mock.provider import MockProvider, messages_seen
from turnmill_worker.providers.openai import items as openai
from turnmill_worker.providers.port import Absent, Done, Request, ToolOffer
from turnmill_worker.tools.form import misfits

CALLS = [["weather", {"city": "Rome"}], ["clock", {}]]
OFFERED = (ToolOffer(name="weather"), ToolOffer(name="clock"))


def a_turn(**script: Any) -> Request:
    return a_request(tools=OFFERED, metadata=scripted(**{"calls": CALLS, **script}))


def after(request: Request, reply: Done, *outputs: str, kept: bool = False) -> Request:
    """Return the next step's request: what the model has called, and what the tools gave."""
    calls = [part for part in reply.parts if isinstance(part, ToolCall)]
    given = [
        Message("tool", [ToolOutput(call_id=call.id, output=output)])
        for call, output in zip(calls, outputs, strict=True)
    ]
    said = Message("assistant", reply.parts)
    return replace(
        request,
        messages=[*request.messages, said, *given],
        step=request.step + 1,
        fence=request.fence + 1,
        thread_ref=reply.thread_ref,
        continues=len(request.messages) + 1 if kept else 0,
    )


def refusal(request: Request) -> str:
    with pytest.raises(Rejected) as caught:
        answer(MockProvider(), request)
    return caught.value.error_code


def test_the_tools_are_called_at_once_and_their_outputs_are_in_the_answer() -> None:
    request = a_turn()
    called = answer(MockProvider(), request)
    assert called.finish_reason == "tool_calls"
    assert [(part.name, part.arguments) for part in called.parts if isinstance(part, ToolCall)] == [
        ("weather", '{"city": "Rome"}'),
        ("clock", "{}"),
    ]
    reply = answer(MockProvider(), after(request, called, "21 degrees", "noon"))
    assert reply.finish_reason == "stop"
    assert reply.text == "Understood. You said: Hello (weather: 21 degrees; clock: noon) [0 before]"


def test_a_scripted_reply_says_where_the_outputs_stand() -> None:
    request = a_turn(chunks=["It is ", "{outputs}", "."])
    called = answer(MockProvider(), request)
    reply = answer(MockProvider(), after(request, called, "21", "noon"))
    assert reply.text == "It is weather: 21; clock: noon."


def test_something_can_be_said_beside_the_calls() -> None:
    called = answer(MockProvider(), a_turn(before_calls="Let me look."))
    assert called.text == "Let me look."
    assert len(called.parts) == 3


def test_arguments_may_be_no_json_at_all() -> None:
    called = answer(MockProvider(), a_turn(calls=[["clock", "{nonsense"]]))
    [call] = called.parts
    assert isinstance(call, ToolCall)
    assert call.arguments == "{nonsense"


def test_a_hundred_rounds_are_made_one_after_another_and_no_two_calls_have_one_id() -> None:
    request, rounds = a_turn(rounds=100), 0
    ids: set[str] = set()
    reply = answer(MockProvider(), request)
    while reply.finish_reason == "tool_calls":
        rounds += 1
        ids |= {part.id for part in reply.parts if isinstance(part, ToolCall)}
        request = after(request, reply, "21", "noon")
        reply = answer(MockProvider(), request)
    assert (rounds, len(ids)) == (100, 200)


def test_each_round_may_have_calls_of_its_own() -> None:
    request = a_turn(calls=None, rounds=[[["clock", {}]], [["weather", {}], ["weather", {}]]])
    first = answer(MockProvider(), request)
    request = after(request, first, "noon")
    second = answer(MockProvider(), request)
    assert [[part.name for part in reply.parts] for reply in (first, second)] == [  # type: ignore[union-attr]
        ["clock"],
        ["weather", "weather"],
    ]
    assert "noon" in answer(MockProvider(), after(request, second, "21", "22")).text


def test_the_next_turn_calls_again_what_its_session_says() -> None:
    settings = scripted(calls=CALLS)
    history = [Message.of("user", "a"), Message.of("assistant", "b")]
    request = a_request(tools=OFFERED, settings=settings, history=history)
    assert answer(MockProvider(), request).finish_reason == "tool_calls"


def test_a_tool_that_is_not_offered_is_not_called() -> None:
    request = replace(a_turn(), tools=OFFERED[:1])
    assert refusal(request) == "setting_refused"


@pytest.mark.parametrize("thread", ["chain", "client"])
def test_messages_are_counted_over_steps_and_turns(thread: str) -> None:
    kept = thread == "chain"
    request = replace(a_turn(), settings={"thread": thread})
    called = answer(MockProvider(), request)
    step = after(request, called, "21", "noon", kept=kept)
    reply = answer(MockProvider(), step)
    assert messages_seen(reply.text) == 0
    spoken = [] if kept else [*step.messages, Message("assistant", reply.parts)]
    following = a_request(settings={"thread": thread}, history=spoken, thread_ref=reply.thread_ref)
    assert messages_seen(answer(MockProvider(), following).text) == 5


def test_faults_may_wait_for_a_step() -> None:
    request = a_turn(faults=["cut"], at_step=2)
    called = answer(MockProvider(), request)
    request = after(request, called, "21", "noon")
    with pytest.raises(MaybeSent):
        answer(MockProvider(), request)
    assert answer(MockProvider(), replace(request, attempt=2)).finish_reason == "stop"


def test_a_question_about_a_step_is_answered_about_that_step(tmp_path: Path) -> None:
    mock = MockProvider(ledger=tmp_path / "ledger")
    request = a_turn()
    called = answer(mock, request)
    assert asyncio.run(mock.check(request)) == called
    request = after(request, called, "21", "noon")
    assert asyncio.run(mock.check(request)) == Absent()
    reply = answer(mock, request)
    assert asyncio.run(mock.check(request)) == reply


def call(number: int = 1) -> ToolCall:
    return ToolCall(id=f"c{number}", name="clock", arguments="{}")


def output(number: int = 1) -> ToolOutput:
    return ToolOutput(call_id=f"c{number}", output="noon")


def told(*messages: tuple[str, Sequence[Part]]) -> list[Message]:
    return [Message(role, parts) for role, parts in messages]


HI, HO = ("user", [Text("hi")]), ("assistant", [Text("ho")])
WHOLE = told(
    HI,
    ("assistant", [Text("so"), call(1), call(2)]),
    ("tool", [output(2)]),
    ("tool", [output(1)]),
    HO,
)
BROKEN = {
    "no output": told(HI, ("assistant", [call()]), HO),
    "no output at the end": told(HI, ("assistant", [call()])),
    "one of two": told(HI, ("assistant", [call(1), call(2)]), ("tool", [output(1)]), HO),
    "an orphan": told(HI, ("tool", [output()]), HO),
    "too late": told(HI, ("assistant", [call()]), HI, ("tool", [output()]), HO),
    "answered twice": told(HI, ("assistant", [call()]), ("tool", [output()]), ("tool", [output()])),
    "one id twice": told(HI, ("assistant", [call(), call()]), ("tool", [output()]), HO),
    "of somebody else": told(("user", [call()]), ("tool", [output()]), HO),
    "said by the user": told(HI, ("assistant", [call()]), ("user", [output()]), HO),
    "a tool that talks": told(HI, ("assistant", [call()]), ("tool", [Text("noon")]), HO),
}


def test_a_conversation_with_all_its_outputs_is_taken() -> None:
    assert messages_seen(answer(MockProvider(), a_request(history=WHOLE)).text) == 5


@pytest.mark.parametrize("history", BROKEN.values(), ids=BROKEN)
def test_a_history_without_its_outputs_is_repaired_and_a_turn_without_them_refused(
    history: list[Message],
) -> None:
    whole = as_vendors_are_sent(a_request(history=history))
    assert as_vendors_are_sent(whole) is whole
    reply = answer(MockProvider(), a_request(history=history))
    assert messages_seen(reply.text) == len(whole.history)
    turn = replace(a_request(), messages=history)
    assert refusal(turn) == "invalid_history"


@pytest.mark.parametrize("history", BROKEN.values(), ids=BROKEN)
def test_the_mock_is_shown_what_the_other_providers_send(history: list[Message]) -> None:
    said = a_request(history=history)
    shown = as_vendors_are_sent(said)
    for sent in (openai.input_of, anthropic.messages_of):
        bodies = [sent(one, [*one.history, *one.messages]) for one in (said, shown)]
        assert bodies[0] == bodies[1]


@pytest.mark.parametrize(
    "script",
    [
        {"calls": []},
        {"calls": "weather"},
        {"calls": [["weather"]]},
        {"calls": [["", {}]]},
        {"calls": [["weather", 7]]},
        {"rounds": 3},
        {"calls": CALLS, "rounds": 0},
        {"calls": CALLS, "rounds": 10**9},
        {"calls": CALLS, "rounds": [CALLS]},
        {"rounds": [[]]},
        {"calls": CALLS, "before_calls": 7},
    ],
)
def test_a_script_of_calls_that_makes_no_sense_is_refused(script: dict[str, Any]) -> None:
    assert refusal(a_request(tools=OFFERED, metadata={"mock": script})) == "setting_refused"


def test_the_script_of_the_testing_package_is_what_the_mock_reads() -> None:
    told = told_by(calls=[("weather", {"city": "Rome"}), ("clock", {})], rounds=2)
    assert answer(MockProvider(), a_request(tools=OFFERED, metadata=told)).parts[1:]
    streamed = told_by(chunks=["a", "b"], tokens_per_second=1000, faults=[{"cut": 1}])
    with pytest.raises(MaybeSent):
        answer(MockProvider(), a_request(metadata=streamed))


@pytest.mark.parametrize(
    "given",
    [{"latency": 3}, {"retry_after": 1.5}, {"faults": 5}, {"chunks": "ab"}, {"replies": 5}],
    ids=str,
)
def test_what_a_script_cannot_tell_is_refused_with_what_it_is_to_be(given: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        told_by(**given)
    assert refused.value.hint.startswith(f"{next(iter(given))}=")


def test_a_script_that_contradicts_itself_is_refused_at_once() -> None:
    with pytest.raises(InvalidInput):
        told_by(reply="a", chunks=["a"])
    with pytest.raises(InvalidInput):
        told_by(rounds=3)
    with pytest.raises(InvalidInput):
        told_by(reply="a", replies=["b"])
    with pytest.raises(InvalidInput):
        told_by(calls=[("weather", {})], rounds=[[("clock", {})]])
    with pytest.raises(InvalidInput):
        told_by(calls=["weather"])  # type: ignore[list-item]
    with pytest.raises(InvalidInput):
        told_by(reply=object())


def test_the_script_has_rounds_steps_and_tools_themselves() -> None:
    @tool(effects="none")
    def clock() -> str:
        """Tell the time."""
        return "noon"

    told = told_by(rounds=[[(clock, {})], [("weather", {}), ("weather", "{")]], before_calls="Hm.")
    request = a_request(tools=OFFERED, metadata=told)
    first = answer(MockProvider(), request)
    assert [part.name for part in first.parts[1:]] == ["clock"]  # type: ignore[union-attr]
    second = answer(MockProvider(), after(request, first, "noon"))
    assert (second.text, len(second.parts)) == ("Hm.", 3)
    late = told_by(faults=["cut"], at_step=2)
    with pytest.raises(MaybeSent):
        answer(MockProvider(), replace(after(request, first, "noon"), metadata=late))


SCHEMAS: list[dict[str, Any]] = [
    {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
    {"type": "object", "properties": {"a": {"type": "integer", "minimum": 3}}, "required": ["a"]},
    {"type": "array", "items": {"$ref": "#/$defs/x"}, "minItems": 2, "$defs": {"x": {"const": 7}}},
    {"anyOf": [{"type": "null"}, {"type": "string"}]},
    {"type": "string", "minLength": 300, "maxLength": 310},
    {"type": "string", "format": "date"},
    {"type": ["number", "null"], "exclusiveMaximum": -2},
    {"enum": ["one", 2]},
    {"type": "integer", "multipleOf": 5, "exclusiveMinimum": 11},
    {"type": "boolean"},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_a_reply_has_the_form_that_is_asked_for(schema: dict[str, Any]) -> None:
    reply = answer(MockProvider(), a_request(output_schema=schema))
    assert misfits(reply.text, schema) == ""


def test_replies_are_given_one_after_the_other() -> None:
    request = a_request(metadata=told_by(replies=["first", {"n": 2}]))
    first = answer(MockProvider(), request)
    again = [*request.messages, Message("assistant", first.parts), Message.of("user", "Again")]
    for messages in (again, [*again, Message.of("assistant", "x"), Message.of("user", "Again")]):
        reply = answer(MockProvider(), replace(request, messages=messages))
        assert (first.text, reply.text) == ("first", '{"n": 2}')
