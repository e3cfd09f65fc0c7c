"""A session that lets Anthropic sum up, or hand over to another model, goes on afterwards."""

from typing import Any

import pytest

from tests.contract.rigs import a_request
from tests.doubles import streams
from tests.doubles.raw_vendor import SETTINGS, RawVendor, http, stream
from tests.doubles.reading_along import told
from tests.validators import anthropic_messages
from turnmill.domain.content import Message, ToolCall, ToolOutput
from turnmill.domain.errors import HistoryRefused, Rejected
from turnmill_worker.providers.anthropic import messages
from turnmill_worker.providers.port import Done, ToolOffer

pytestmark = pytest.mark.anyio

EDITS = {"context_management": {"edits": [{"type": "compact_20260112"}]}}
SUMMARY = {"type": "compaction", "content": "Met.", "encrypted_content": "E", "signature": "s"}
THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "EqQB"}
WEATHER = ToolOffer(name="weather")


def said(*words: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": one} for one in words]


def call(name: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": name, "name": "weather", "input": {}}


def reply(*content: dict[str, Any], stop: str = "end_turn") -> Done:
    usage = {"input_tokens": 10, "output_tokens": 5}
    payload = {"content": list(content), "stop_reason": stop, "usage": usage, "model": "claude"}
    return messages.reply_of(payload, request_id="")


def sent_again(found: Done, **settings: Any) -> list[Any]:
    """Return the blocks that a reply is in the next turn."""
    history = [Message.of("user", "Hello"), Message("assistant", found.parts)]
    body = messages.body_of(a_request(history=history, settings=settings))
    assert anthropic_messages.violations(body) == []
    content = body["messages"][1]["content"]
    return said(content) if isinstance(content, str) else content


def test_a_summary_of_the_vendors_goes_back_to_it_where_it_stood() -> None:
    found = reply(SUMMARY, *said("Two."))
    assert found.text == "Two."
    assert sent_again(found, **EDITS) == [SUMMARY, *said("Two.")]


def test_a_session_that_lets_it_sum_up_no_more_sends_it_none() -> None:
    clears = {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}
    for settings in ({}, clears):
        assert sent_again(reply(SUMMARY, *said("Two.")), **settings) == said("Two.")


@pytest.mark.parametrize("content", [None, "", " \n", 7])
def test_a_summary_that_failed_is_left_out(content: object) -> None:
    found = reply({**SUMMARY, "content": content}, *said("Two."))
    assert sent_again(found, **EDITS) == said("Two.")


def test_a_turn_that_was_summed_up_in_the_middle_goes_on_to_think() -> None:
    found = reply(SUMMARY, THINKING, call("c1"), stop="tool_use")
    step = [
        Message.of("user", "Is it warm?"),
        Message("assistant", found.parts),
        Message("tool", [ToolOutput(call_id="c1", output="29")]),
    ]
    thinking = {"thinking": {"type": "adaptive"}, **EDITS}
    request = a_request(messages=step, step=2, tools=[WEATHER], settings=thinking)
    body = messages.body_of(request)
    assert anthropic_messages.violations(body) == []
    assert body["thinking"] == {"type": "adaptive"}
    kinds = [one["type"] for one in body["messages"][1]["content"]]
    assert kinds == ["compaction", "thinking", "tool_use"]


def test_what_summing_up_may_take_is_reserved_for() -> None:
    clears = {"context_management": {"edits": [{"type": "clear_thinking_20251015"}]}}
    assert messages.most_of(a_request(settings=clears), ()) == messages.most_of(a_request(), ())
    plain = messages.most_of(a_request(), ())
    both = messages.most_of(a_request(settings=EDITS), ())
    assert (both.input_tokens, both.output_tokens) == (
        2 * (plain.input_tokens or 0),
        2 * (plain.output_tokens or 0),
    )


def test_a_session_that_would_have_summaries_in_place_of_answers_is_refused() -> None:
    with pytest.raises(Rejected) as caught:
        messages.body_of(a_request(settings={"compaction": {"type": "summarize"}}))
    assert caught.value.error_code == "setting_refused"


async def test_a_summary_and_a_thought_that_is_counted_stream_as_they_are_answered() -> None:
    begun = {**SUMMARY, "content": None, "encrypted_content": None}
    counted = {"type": "thinking_delta", "thinking": "", "estimated_tokens": 50}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"model": "claude", "usage": {"input_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": begun},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {
                "type": "compaction_delta",
                "content": "Met.",
                "encrypted_content": "E",
            },
        },
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "thinking", "thinking": "", "signature": ""},
        },
        {"type": "content_block_delta", "index": 1, "delta": counted},
        {
            "type": "content_block_delta",
            "index": 1,
            "delta": {"type": "signature_delta", "signature": "EqQB"},
        },
        {"type": "content_block_start", "index": 2, "content_block": said("Two.")[0]},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}},
        {"type": "message_stop"},
    ]
    async with RawVendor() as vendor:
        wire = stream([streams.written(one) for one in events])
        found, heard = await told(vendor, "messages", wire)
    assert (found.text, heard.text) == ("Two.", "Two.")
    assert sent_again(found, **EDITS) == [SUMMARY, {**THINKING, "thinking": ""}, *said("Two.")]


HANDED_OVER = {
    "type": "fallback",
    "from": {"model": "claude-fable-5"},
    "to": {"model": "claude-opus-4-8"},
    "trigger": {"type": "refusal"},
}


def test_what_a_model_had_thought_and_called_before_it_declined_is_none_of_the_answer() -> None:
    found = reply(THINKING, *said("One. "), call("c1"), HANDED_OVER, THINKING, *said("Two."))
    assert (found.text, found.finish_reason) == ("One. Two.", "stop")
    assert sent_again(found) == [*said("One. "), THINKING, *said("Two.")]


def test_the_model_that_went_on_may_call() -> None:
    content = [call("c1"), HANDED_OVER, call("c2"), HANDED_OVER, call("c3")]
    found = reply(*content, stop="tool_use")
    assert [one.id for one in found.parts if isinstance(one, ToolCall)] == ["c3"]


@pytest.mark.parametrize(
    "words",
    [
        "messages.1.content.0.thinking.estimated_tokens: Extra inputs are not permitted",
        "messages.1.content.0: Input tag 'compaction' found using 'type' does not match any of"
        " the expected tags: 'text', 'thinking', 'tool_use'",
    ],
)
async def test_a_block_that_the_vendor_does_not_take_back_is_a_matter_of_the_history(
    words: str,
) -> None:
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": words}}
    async with RawVendor() as vendor:
        vendor.meet(http(error, status=400))
        provider = vendor.provider("messages")
        with pytest.raises(HistoryRefused):
            await provider.send(a_request(settings=SETTINGS["messages"]))
        await provider.aclose()
