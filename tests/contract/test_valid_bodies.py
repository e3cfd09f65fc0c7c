"""Whatever a history holds, each vendor is sent a body that it takes."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_core import from_json

from tests.contract.rigs import a_request
from tests.validators import anthropic_messages, openai_chat, openai_responses
from turnmill.domain.content import KINDS, Message, Native, Part, Text, ToolCall, ToolOutput
from turnmill_worker.providers.anthropic import messages
from turnmill_worker.providers.fitting import fitted
from turnmill_worker.providers.http import encoded
from turnmill_worker.providers.openai import chat, responses
from turnmill_worker.providers.port import Request, ToolOffer

SUMS_UP = {"edits": [{"type": "compact_20260112"}]}
OF_ANTHROPIC = ("context_management", "thinking")
TAKES = frozenset({Text, ToolCall, ToolOutput, Native})
assert frozenset(KINDS.values()) > TAKES

#: Few, so that they meet again: as ids that are repeated, and as outputs of calls.
IDS = ["call_1", "call_2", "toolu_1", "", "a b", "x" * 64, "y" * 300, "fc_é", "call_1\n"]
NAMES = ["weather", "get.time", "", "n" * 80, "mcp__files/read", "zeit_für"]
ARGUMENTS = [
    '{"city": "Rome"}',
    "{}",
    "",
    "[1]",
    "null",
    '{"a": ',
    '{"a": NaN}',
    '{"a": "\\ud800"}',
    '{"a": 1e999}',
    "not JSON",
    '{"a": "\\u0000", "a": 2}',
    '{"n": ' + "9" * 400 + "}",
]
WORDS = ["Hello.", "", " \n", "And?", "\u00e9\U0001f600", "\u200b", "  two  "]

CITED = {
    "type": "char_location",
    "cited_text": "x",
    "document_index": 0,
    "document_title": None,
    "start_char_index": 0,
    "end_char_index": 1,
    "file_id": "file_1",
}


def _deep(levels: int) -> Any:
    return {"a": _deep(levels - 1)} if levels else 1


#: What some servers say, and no JSON holds; or not as it can be read again.
ODD: list[Any] = [float("nan"), float("-inf"), "\ud800", _deep(230), _deep(300)]

ITEMS: list[Any] = [
    ("openai", "responses", {"type": "reasoning", "id": "rs_1", "summary": []}),
    *[
        ("openai", "responses", {**item, "id": "it_1"})
        for item in (
            {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"},
            {"type": "web_search_call", "status": "completed", "action": {"type": "search"}},
            {"type": "custom_tool_call", "call_id": "call_1", "name": "f", "input": "x"},
            {"type": "custom_tool_call_output", "call_id": "call_1", "output": "x"},
            {"type": "shell_call_output", "call_id": "call_2", "output": []},
            {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "x"},
            {"type": "item_reference"},
            {"type": "compaction", "encrypted_content": "gAAA", "created_by": "x"},
            {"type": "compaction", "encrypted_content": ""},
            {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "Hm."}],
            },
            {
                "type": "message",
                "role": "assistant",
                "content": [
                    {
                        "type": "output_text",
                        "text": "Hello.",
                        "annotations": [{"type": "file_path"}],
                    }
                ],
            },
        )
    ],
    *[("openai", "responses", {"type": "web_search_call", "id": "ws_1", "x": odd}) for odd in ODD],
    *[("openai", "chat", {"reasoning_details": [odd]}) for odd in ODD],
    *[
        ("anthropic", "messages", {"type": kind, name: "srvtoolu_2", "content": [odd]})
        for odd in ODD
        for kind, name in (("server_tool_use", "id"), ("web_search_tool_result", "tool_use_id"))
    ],
    *[
        ("openai", "responses", {"type": "message", "phase": phase})
        for phase in ("commentary", "final_answer")
    ],
    ("openai", "responses", []),
    ("openai", "", "words"),
    ("openai", "chat", {"reasoning_content": "Hm."}),
    ("openai", "chat", {"annotations": [{"type": "url_citation"}]}),
    ("openai", "chat", {"role": "tool", "tool_calls": [], "content": 1}),
    *[
        ("anthropic", "messages", item)
        for item in (
            {"type": "thinking", "thinking": "Hm.", "signature": "EqQB"},
            {"type": "thinking", "thinking": "Hm.", "signature": ""},
            {"type": "redacted_thinking", "data": "AAA"},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": ""},
            {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
            {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
            {"type": "text", "text": " "},
            {"type": "text", "text": "Hello.", "citations": [CITED]},
            {"type": "text", "text": " \n", "citations": [CITED]},
            {"type": "refusal", "category": "cyber"},
            {"type": "compaction", "content": "They met.", "encrypted_content": "Eq"},
            {"type": "compaction", "content": None},
            {"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}},
            7,
        )
    ],
]

_texts = st.builds(Text, st.sampled_from(WORDS))
_calls = st.builds(
    ToolCall,
    id=st.sampled_from(IDS),
    name=st.sampled_from(NAMES),
    arguments=st.sampled_from(ARGUMENTS),
)
_outputs = st.builds(
    ToolOutput,
    call_id=st.sampled_from(IDS),
    output=st.sampled_from(WORDS),
    is_error=st.booleans(),
)
_natives = st.sampled_from(ITEMS).map(
    lambda one: Native(provider=one[0], api=one[1], item=json.dumps(one[2]))
)
_anything: st.SearchStrategy[Part] = st.one_of(_texts, _calls, _outputs, _natives)
_odd = st.builds(
    Message,
    st.sampled_from(["user", "assistant", "tool", "system"]),
    st.lists(_anything, max_size=4),
)


@st.composite
def _batch(draw: st.DrawFn) -> list[Message]:
    """Return calls and some of their outputs: as a step leaves them, or as a crash does."""
    said = draw(st.lists(st.one_of(_natives, _texts), max_size=3))
    calls = draw(st.lists(_calls, min_size=1, max_size=4))
    ids = draw(st.permutations([one.id for one in calls]))
    there = ids[: draw(st.integers(0, len(ids)))]
    outputs = [
        Message("tool", [ToolOutput(call_id=one, output=draw(st.sampled_from(WORDS)))])
        for one in there
    ]
    return [Message("assistant", [*said, *calls]), *outputs]


_histories = st.lists(st.one_of(_odd.map(lambda one: [one]), _batch()), max_size=7).map(
    lambda runs: [one for run in runs for one in run]
)
_offers = st.lists(
    st.sampled_from(NAMES[:1] + NAMES[3:4]).map(
        lambda name: ToolOffer(name=name[:64], description="What it does.")
    ),
    max_size=2,
    unique_by=lambda one: one.name,
)
_schemas = st.sampled_from(
    [
        None,
        {"type": "object", "properties": {"a": {"type": "string", "default": "x"}}},
        {"type": "object", "additionalProperties": {"type": "string"}},
    ]
)
_settings: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {},
        {"thinking": {"type": "enabled", "budget_tokens": 2000}},
        {"tool_choice": "required", "thinking": {"type": "adaptive"}},
        {"tool_choice": {"type": "tool", "name": "weather"}},
        {"tool_choice": "none", "parallel_tool_calls": False},
        {"context_management": SUMS_UP, "thinking": {"type": "adaptive"}},
        {"parallel_tool_calls": False, "tools": ["weather"], "max_tool_rounds": 3},
    ]
)


@st.composite
def _requests(draw: st.DrawFn) -> Request:
    offers = draw(_offers)
    given = {**draw(_settings)}
    if "weather" not in {one.name for one in offers}:
        given = {name: one for name, one in given.items() if name in OF_ANTHROPIC}
    return a_request(
        messages=[Message.of("user", draw(st.sampled_from(WORDS))), *draw(_histories)],
        history=draw(_histories),
        settings=given,
        tools=offers,
        output_schema=draw(_schemas),
        step=draw(st.integers(1, 3)),
        model=draw(st.sampled_from(["gpt-5-mini", "gpt-4.1"])),
    )


def _as_sent(body: dict[str, Any]) -> Any:
    """Return what arrives: what is no JSON, or no Unicode, or deeper than any reader, would not."""
    return from_json(json.dumps(json.loads(encoded(body), parse_constant=_refuse)))


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _of_vendor(request: Request, name: str) -> Request:
    settings = dict(request.settings)
    if name == "openai":
        for one in OF_ANTHROPIC:
            settings.pop(one, None)
    return fitted(
        a_request(
            messages=request.messages,
            history=request.history,
            settings=settings,
            tools=request.tools,
            output_schema=request.output_schema,
            step=request.step,
            model=request.model,
        ),
        name=name,
        takes=TAKES,
    )


def _of_later_step(request: Request) -> list[str]:
    """Judge a body on a thread that holds the turn up to the last thing that the model said."""
    said = request.messages
    last = max((n for n, one in enumerate(said, 1) if one.role == "assistant"), default=0)
    first = last
    while first and said[first - 1].role == "assistant":
        first -= 1
    held = [one.id for n in said[first:last] for one in n.parts if isinstance(one, ToolCall)]
    on = replace(_of_vendor(request, "openai"), messages=said, thread_ref="resp_1", continues=last)
    return openai_responses.violations(_as_sent(responses.body_of(on, chain=True)), held=held)


BODIES: dict[str, Callable[[Request], list[str]]] = {
    "responses": lambda one: openai_responses.violations(
        _as_sent(responses.body_of(_of_vendor(one, "openai"), chain=False))
    ),
    "chain": lambda one: openai_responses.violations(
        _as_sent(responses.body_of(_of_vendor(one, "openai"), chain=True))
    ),
    "later step": _of_later_step,
    "chat": lambda one: openai_chat.violations(_as_sent(chat.body_of(_of_vendor(one, "openai")))),
    "messages": lambda one: anthropic_messages.violations(
        _as_sent(messages.body_of(_of_vendor(one, "anthropic")))
    ),
}


def _check(request: Request) -> None:
    wrong = {name: found for name, judge in BODIES.items() if (found := judge(request))}
    assert not wrong


_profile = settings(
    max_examples=int(os.environ.get("TURNMILL_HISTORIES", "200")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@_profile
@given(_requests())
def test_whatever_was_said_becomes_a_body_that_each_vendor_takes(request: Request) -> None:
    _check(request)


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(_profile, max_examples=10_000)
@given(_requests())
def test_ten_thousand_histories_become_bodies_that_each_vendor_takes(request: Request) -> None:
    _check(request)
