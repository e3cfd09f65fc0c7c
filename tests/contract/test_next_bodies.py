"""Whatever a vendor has said of its own, what its session says next is a body that is taken.

Answers with items of the vendor's own are changed at random. What comes of one stands in the
history of the next turn.
"""

import copy
import json
import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import pytest

from tests.contract.rigs import a_request
from tests.doubles.mutations import change
from tests.doubles.raw_vendor import SETTINGS, RawVendor, http
from tests.doubles.whole_turn import Books, run_to_end
from tests.validators import anthropic_messages, openai_chat, openai_responses
from turnmill.domain.content import Message, Native, Text, ToolCall, ToolOutput
from turnmill.domain.errors import ProviderError
from turnmill_worker.providers.anthropic import messages
from turnmill_worker.providers.fitting import fitted
from turnmill_worker.providers.http import encoded
from turnmill_worker.providers.openai import chat, responses
from turnmill_worker.providers.port import Done
from turnmill_worker.providers.untrusted import Unreadable

TAKES = frozenset({Text, ToolCall, ToolOutput, Native})

USED = {"input_tokens": 1, "output_tokens": 1}
FOUND = {"type": "web_search_result", "url": "u", "title": "t", "encrypted_content": "e"}
CALLED = {"name": "f", "arguments": "{}"}


class Api(NamedTuple):
    name: str
    payload: Mapping[str, Any]
    reply_of: Callable[[Mapping[str, Any]], Any]
    body_of: Callable[[Any], dict[str, Any]]
    violations: Callable[[Any], list[str]]


APIS = {
    "responses": Api(
        "openai",
        {
            "id": "resp_1",
            "status": "completed",
            "output": [
                {
                    "type": "reasoning",
                    "id": "rs_1",
                    "summary": [{"type": "summary_text", "text": "Hm."}],
                    "encrypted_content": "gAAA",
                },
                {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {}},
                {"type": "message", "content": [{"type": "output_text", "text": "Hello."}]},
                {"type": "function_call", "id": "fc_1", "call_id": "c1", **CALLED},
                {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "x"},
            ],
            "usage": USED,
        },
        partial(responses.reply_of, chain=False, request_id=""),
        partial(responses.body_of, chain=False),
        openai_responses.violations,
    ),
    "chat": Api(
        "openai",
        {
            "choices": [
                {
                    "message": {
                        "content": "Hello.",
                        "reasoning_content": "Hm.",
                        "reasoning_details": [{"type": "x", "data": "y"}],
                        "annotations": [{"type": "url_citation", "url_citation": {"url": "u"}}],
                        "tool_calls": [
                            {"id": "c1", "type": "function", "function": CALLED},
                            {"id": "c2", "type": "function", "function": CALLED},
                        ],
                    },
                    "finish_reason": "tool_calls",
                }
            ],
            "usage": {"prompt_tokens": 9, "prompt_tokens_details": {"audio_tokens": 1}},
        },
        partial(chat.reply_of, request_id=""),
        chat.body_of,
        openai_chat.violations,
    ),
    "messages": Api(
        "anthropic",
        {
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "EqQB"},
                {"type": "redacted_thinking", "data": "AAA"},
                {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}},
                {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [FOUND]},
                {"type": "text", "text": "Hello."},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
            ],
            "stop_reason": "tool_use",
            "usage": {**USED, "iterations": [{"type": "message", **USED}]},
        },
        partial(messages.reply_of, request_id=""),
        messages.body_of,
        anthropic_messages.violations,
    ),
}


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("count", [1_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_whatever_a_vendor_has_said_what_is_said_next_is_taken(api: str, count: int) -> None:
    dice, replies = random.Random(f"{api}{count}"), 0
    for number in range(count):
        said = changed(APIS[api].payload, dice)
        try:
            reply = APIS[api].reply_of(said)
        except (ProviderError, Unreadable):
            continue
        assert isinstance(reply, Done)
        replies += 1
        wrong = APIS[api].violations(next_body(APIS[api], reply))
        assert wrong == [], (number, json.dumps(said))
    assert replies > count // 2


def changed(payload: Mapping[str, Any], dice: random.Random) -> dict[str, Any]:
    said = copy.deepcopy(dict(payload))
    for _ in range(dice.choice((1, 1, 2, 3, 5, 8))):
        if said.keys() >= {"id"} or len(said) > 1:
            change(said, dice)
    return said


def next_body(api: Api, reply: Done) -> Any:
    """Return what is sent in the next turn, as it arrives: as JSON, in the strict sense."""
    calls = [part for part in reply.parts if isinstance(part, ToolCall)]
    outputs = [ToolOutput(call_id=one.id, output="It rains.") for one in calls]
    history = [Message.of("user", "Hello?"), Message("assistant", reply.parts)]
    if outputs:
        history += [Message("tool", outputs), Message.of("assistant", "So it rains.")]
    request = fitted(a_request(history=history), name=api.name, takes=TAKES)
    return json.loads(encoded(api.body_of(request)), parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(constant)


ODD_KINDS: tuple[Any, ...] = ({"value": "message"}, ["message"], 7, None)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ODD_KINDS, ids=str)
async def test_an_answer_whose_kinds_are_no_words_is_asked_for_once(kind: Any) -> None:
    answers: dict[str, dict[str, Any]] = {
        "responses": {"status": "completed", "output": [{"type": kind}]},
        "messages": {
            "content": [{"type": kind}],
            "usage": {**USED, "iterations": [{"type": kind}]},
        },
        "chat": {"choices": [{"message": {"content": [{"type": kind}]}, "finish_reason": kind}]},
    }
    async with RawVendor() as vendor:
        for api, answer in answers.items():
            vendor.meet(http(answer))
            provider = vendor.provider(api)
            settings = {**SETTINGS[api], "thread": "client"}
            last = await run_to_end(provider, Books(), settings=settings, model="gpt-5-mini")
            await provider.aclose()
            assert last.state in ("succeeded", "failed")
            assert not (last.error_code or "").startswith("bug:")
            assert len(vendor.bodies) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ODD_KINDS, ids=str)
async def test_a_refusal_whose_codes_are_no_words_is_one(kind: Any) -> None:
    async with RawVendor() as vendor:
        vendor.meet(http({"error": {"code": kind, "param": kind, "type": kind}}, status=400))
        provider = vendor.provider("responses")
        last = await run_to_end(provider, Books(), provider_ref="resp_0", model="gpt-5-mini")
        await provider.aclose()
    assert (last.state, last.error_code) == ("failed", "http_400")
    assert len(vendor.bodies) == 1
