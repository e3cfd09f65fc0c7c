"""What vendors' events amount to is what they would have answered at once."""

import asyncio
import copy
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.doubles import streams
from tests.doubles.mutations import change
from turnmill.domain.errors import ProviderError
from turnmill_worker.http1.answer import Headers
from turnmill_worker.http1.failures import CutShort
from turnmill_worker.providers.answers import read
from turnmill_worker.providers.anthropic import messages
from turnmill_worker.providers.anthropic.streaming import MessageEvents
from turnmill_worker.providers.http import Incoming, RawAnswer
from turnmill_worker.providers.openai import chat, responses
from turnmill_worker.providers.openai.streaming import ChatEvents, ResponseEvents
from turnmill_worker.providers.port import Done, Running
from turnmill_worker.providers.streaming import Assembly, Told, answered

MOST = 2**20
ASSEMBLIES: Mapping[str, Callable[..., Assembly]] = {
    "responses": ResponseEvents,
    "chat": ChatEvents,
    "messages": MessageEvents,
}
REPLIES: Mapping[str, Callable[[Mapping[str, Any]], Done | Running]] = {
    "responses": partial(responses.reply_of, chain=True, request_id=""),
    "chat": partial(chat.reply_of, request_id=""),
    "messages": partial(messages.reply_of, request_id=""),
}
EVENTS: Mapping[str, Callable[..., Sequence[Any]]] = {
    "responses": streams.response_events,
    "chat": streams.chat_events,
    "messages": streams.message_events,
}
APIS = pytest.mark.parametrize("api", list(ASSEMBLIES))


class Given:
    """A stream that has arrived, in pieces."""

    status, framed = 200, True
    headers = Headers([(b"content-type", b"text/event-stream")])

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = [one for one in pieces if one]

    async def next(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    async def ends_within(self, seconds: float) -> None: ...


def payload_of(api: str, texts: Sequence[str]) -> dict[str, Any]:
    """Return an answer that says these texts, and calls a tool."""
    arguments = {"city": "Zürich 🏔", "days": [1, 2]}
    if api == "chat":
        call = {"name": "weather", "arguments": json.dumps(arguments)}
        called = [{"id": "call_1", "type": "function", "function": call}]
        message = {"role": "assistant", "content": "".join(texts), "tool_calls": called}
        return {
            "id": "c1",
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 5},
        }
    if api == "messages":
        content: list[Any] = [{"type": "thinking", "thinking": "Hm. 🤔", "signature": "c2ln"}]
        content += [{"type": "text", "text": one} for one in texts]
        content.append({"type": "tool_use", "id": "t1", "name": "weather", "input": arguments})
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": content,
            "stop_reason": "tool_use",
            "stop_sequence": None,
            "usage": {"input_tokens": 3, "output_tokens": 5},
        }
    parts = [{"type": "output_text", "text": one, "annotations": []} for one in texts]
    output: list[Any] = [{"id": "rs_1", "type": "reasoning", "summary": []}]
    output.append({"id": "m1", "type": "message", "role": "assistant", "content": parts})
    call = {"id": "f1", "call_id": "call_1", "name": "weather", "arguments": json.dumps(arguments)}
    output.append({"type": "function_call", **call})
    return {
        "id": "resp_1",
        "status": "completed",
        "model": "m",
        "output": output,
        "usage": {"input_tokens": 3, "output_tokens": 5},
    }


async def streamed(api: str, pieces: Sequence[bytes]) -> tuple[Done, str, Mapping[str, Any]]:
    """Return the reply, all that was emitted, and the payload that was put together."""
    heard: list[str] = []

    async def emit(piece: str) -> None:
        assert piece
        piece.encode()  # whole characters
        heard.append(piece)

    told = Told(emit)
    incoming = Incoming(Given(pieces), most=MOST)
    answer = await answered(incoming, ASSEMBLIES[api](most=MOST), told)
    reply = await read(answer, REPLIES[api])
    assert isinstance(reply, Done)
    assert answer.payload is not None
    return await told.ended(reply), "".join(heard), answer.payload


def at_once(api: str, payload: Mapping[str, Any]) -> Done:
    body = json.dumps(payload).encode()
    found = asyncio.run(read(RawAnswer(200, {}, body), REPLIES[api]))
    assert isinstance(found, Done)
    return found


@pytest.mark.parametrize("told", [None, {}, {"output_tokens": None}, {"output_tokens": "5"}])
def test_of_a_message_that_never_says_how_much_it_was_the_first_token_is_no_sum(told: Any) -> None:
    events = list(EVENTS["messages"](payload_of("messages", ["Paris"])))
    events[-2] = {**events[-2], "usage": told}
    wire = [b"data: %b\n\n" % json.dumps(one).encode() for one in events]
    reply, _, _ = asyncio.run(streamed("messages", wire))
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (3, None)


@APIS
@given(
    texts=st.lists(
        st.text(st.characters(exclude_categories=[]), max_size=40), min_size=1, max_size=3
    ),
    size=st.integers(1, 7),
    cuts=st.lists(st.integers(0, 20_000), max_size=30),
    end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
)
@settings(max_examples=30, deadline=None)
def test_what_is_emitted_joined_is_the_text_and_the_text_is_that_of_an_answer_at_once(
    api: str, texts: list[str], size: int, cuts: list[int], end: bytes
) -> None:
    payload = payload_of(api, texts)
    events = EVENTS[api](payload, size=size)
    wire = b"".join(streams.written(one) for one in events).replace(b"\n", end)
    places = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
    pieces = [wire[a:b] for a, b in pairwise(places)]
    reply, heard, put_together = asyncio.run(streamed(api, pieces))
    whole = at_once(api, payload)
    assert heard == reply.text == whole.text
    assert reply == whole
    assert told_by(api, put_together) == told_by(api, json.loads(json.dumps(payload)))


def told_by(api: str, payload: Mapping[str, Any]) -> Any:
    """Return what an answer says, calls and thinks."""
    if api == "responses":
        return payload
    if api == "messages":
        return payload["content"], payload["usage"], payload["stop_reason"]
    message = payload["choices"][0]["message"]
    calls = [(one["id"], one["type"], one["function"]) for one in message["tool_calls"]]
    return (
        message["content"] or None,
        calls,
        payload["usage"],
        payload["choices"][0]["finish_reason"],
    )


CHANGES: Mapping[str, Callable[[list[bytes], int, int], None]] = {
    "left out": lambda sent, at, _: sent.__delitem__(at),
    "twice": lambda sent, at, _: sent.insert(at, sent[at]),
    "later": lambda sent, at, to: sent.insert(to, sent.pop(at)),
    "spoilt": lambda sent, at, _: sent.__setitem__(at, sent[at][:-3] + b"\n\n"),
    "nothing": lambda sent, at, _: sent.__setitem__(at, b"data: null\n\n"),
    "of another kind": lambda sent, at, _: sent.__setitem__(at, b'data: {"type": "x"}\n\n'),
    "without a body": lambda sent, at, _: sent.__setitem__(
        at, b'data: {"type": "response.completed", "choices": [{"delta": 7}]}\n\n'
    ),
}


@APIS
@given(
    text=st.text(min_size=1, max_size=40),
    size=st.integers(1, 7),
    changes=st.lists(
        st.tuples(st.sampled_from([*CHANGES]), st.integers(0, 200), st.integers(0, 200)),
        min_size=1,
        max_size=3,
    ),
)
@settings(max_examples=30, deadline=None)
def test_whatever_becomes_of_its_events_a_reply_says_what_was_emitted(
    api: str, text: str, size: int, changes: list[tuple[str, int, int]]
) -> None:
    sent = [streams.written(one) for one in EVENTS[api](payload_of(api, [text]), size=size)]
    for name, at, to in changes:
        if sent:
            CHANGES[name](sent, at % len(sent), to % len(sent))
    try:
        reply, heard, _ = asyncio.run(streamed(api, sent))
    except (ProviderError, CutShort):
        return
    assert heard == reply.text


@APIS
@given(text=st.text(max_size=30), at=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_a_stream_without_its_last_event_is_no_reply(api: str, text: str, at: int) -> None:
    events = [streams.written(one) for one in EVENTS[api](payload_of(api, [text]), size=3)]
    wire = b"".join(events)
    last = len(wire) - len(events[-1])
    with pytest.raises(CutShort):
        asyncio.run(streamed(api, [wire[: at % last]]))


@APIS
def test_events_that_make_no_sense_are_a_reply_or_an_error_of_ours(api: str) -> None:
    dice = random.Random(api)

    async def all_of_them() -> Counter[str]:
        endings: Counter[str] = Counter()
        for _ in range(250):
            events = copy.deepcopy([*EVENTS[api](payload_of(api, ["Hel🏔lo ", "wörld"]), size=3)])
            for event in dice.sample(events, dice.randrange(1, 3)):
                if isinstance(event, dict) and event:
                    change(event, dice)
            said = [one if isinstance(one, str) else json.dumps(one) for one in events]
            try:
                reply, heard, _ = await streamed(api, [f"data: {one}\n\n".encode() for one in said])
            except (ProviderError, CutShort) as error:
                endings[type(error).__name__] += 1
            else:
                assert heard == reply.text
                endings["Done"] += 1
        return endings

    endings = asyncio.run(all_of_them())
    assert endings["Done"] > 25
    assert endings["Rejected"] + endings["CutShort"] > 0
