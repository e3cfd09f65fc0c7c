"""Conversations of elsewhere are read in the shapes that people have them in."""

from typing import Any

import pytest

from tests.integration.odd_values import Treacherous
from turnmill.domain.content import Message, Text, ToolCall, ToolOutput
from turnmill.domain.conversations import Conversation, conversation_from
from turnmill.domain.errors import InvalidInput, InvalidText


def _called_with(given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": "c1", "name": "t", "input": given}


OPENAI = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "How warm is it?"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "t", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "21"},
        {"role": "assistant", "content": "21 degrees.", "weight": 1},
    ]
}
ANTHROPIC = {
    "system": [{"type": "text", "text": "Be brief."}],
    "messages": [
        {"role": "user", "content": "How warm is it?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "x"},
                {"type": "tool_use", "id": "c1", "name": "t", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "21"}],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "21 degrees."}]},
    ],
}
SHAREGPT = {
    "system": "Be brief.",
    "conversations": [
        {"from": "human", "value": "How warm is it?"},
        {"from": "function_call", "value": '{"name": "t", "arguments": {}}'},
        {"from": "observation", "value": "21"},
        {"from": "gpt", "value": "21 degrees."},
    ],
}
RESPONSES = [
    {"role": "developer", "content": "Be brief."},
    {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "How warm is it?"}],
    },
    {"type": "reasoning", "summary": []},
    {"type": "function_call", "call_id": "c1", "name": "t", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "21"},
    {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "21 degrees."}],
    },
]


def read(given: object) -> Conversation:
    return conversation_from(given, max_text_bytes=100)


@pytest.mark.parametrize("given", [OPENAI, ANTHROPIC, SHAREGPT, RESPONSES])
def test_every_shape_is_read_as_the_same_conversation(given: Any) -> None:
    found = read(given)
    call = "call_1" if given is SHAREGPT else "c1"
    assert found.system_prompt == "Be brief."
    assert found.messages == (
        Message.of("user", "How warm is it?"),
        Message("assistant", (ToolCall(id=call, name="t", arguments="{}"),)),
        Message("tool", (ToolOutput(call_id=call, output="21"),)),
        Message.of("assistant", "21 degrees."),
    )


def test_messages_of_ours_are_taken_as_they_are() -> None:
    said = [Message.of("user", "one"), Message.of("assistant", "two")]
    assert read(said) == Conversation(None, tuple(said))


def test_what_is_no_text_stands_as_a_word_on_what_it_was() -> None:
    block = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    (message,) = read(
        [{"role": "user", "content": [{"type": "text", "text": "see"}, block]}]
    ).messages
    assert message.parts == (Text("see"), Text("[an image]"))


def test_system_messages_in_the_middle_stay_where_they_stand() -> None:
    roles = ("system", "user", "system", "assistant")
    found = read([{"role": role, "content": role} for role in roles])
    assert found.system_prompt == "system"
    assert [one.role for one in found.messages] == ["user", "system", "assistant"]


@pytest.mark.parametrize(
    "given",
    [
        5,
        "text",
        {},
        {"messages": "text"},
        [5],
        [{"role": "nobody", "content": "x"}],
        [{"role": ["user"], "content": "x"}],
        [{"role": "user", "content": 5}],
        [{"role": "user", "content": [5]}],
        [{"role": "user", "content": [{"type": "hologram"}]}],
        [{"role": "user", "content": [{"type": ["text"], "text": "x"}]}],
        [{"role": "user", "content": [{"type": "text", "text": 5}]}],
        [{"role": "assistant", "tool_calls": [5]}],
        [{"role": "assistant", "tool_calls": 5}],
        [{"role": "assistant", "tool_calls": [{"function": {}}]}],
        [{"role": "tool", "content": "x"}],
        [{"type": {"a": 1}, "role": "user", "content": "x"}, {"from": None, "value": "x"}],
        [Message("user", (Text(5),))],  # type: ignore[arg-type]
        [Message("nobody", (Text("x"),))],
        [Message("tool", (ToolOutput(call_id="c", output="x", is_error="no"),))],  # type: ignore[arg-type]
        [Message("tool", (ToolOutput(call_id="c", output="x", is_error={1}),))],  # type: ignore[arg-type]
        [{"role": "assistant", "content": [_called_with({"x": float("nan")})]}],
        [{"role": "assistant", "content": [_called_with({"x": [float("inf")]})]}],
        [{"role": "user", "content": "x"}] * 10_001,
    ],
)
def test_what_is_no_conversation_is_refused_and_not_quoted(given: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(given)
    assert "hologram" not in str(caught.value)


@pytest.mark.parametrize("text", ["\0", "\ud800", "x" * 101])
def test_texts_that_cannot_be_stored_are_refused_by_their_place(text: str) -> None:
    with pytest.raises(InvalidText, match="message 1"):
        read([{"role": "user", "content": "fine"}, {"role": "user", "content": text}])


def test_a_message_that_fails_while_it_is_read_is_refused() -> None:
    with pytest.raises(InvalidInput, match="message 0 cannot be read"):
        conversation_from([Treacherous()], max_text_bytes=100)
    with pytest.raises(InvalidInput, match="it cannot be read"):
        conversation_from(Treacherous(), max_text_bytes=100)
