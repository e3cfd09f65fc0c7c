"""Answers that no vendor gave: real ones, changed at random in words, form and packing."""

import copy
import gzip
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tests.doubles.raw_vendor import Wire, http

PAYLOADS: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "responses": {
            "id": "resp_1",
            "object": "response",
            "created_at": 1_790_000_000,
            "status": "completed",
            "error": None,
            "incomplete_details": None,
            "model": "gpt-5-mini",
            "output": [
                {"id": "rs_1", "type": "reasoning", "summary": []},
                {"type": "web_search_call", "id": "ws_1", "status": "completed"},
                {
                    "id": "msg_1",
                    "type": "message",
                    "role": "assistant",
                    "status": "completed",
                    "content": [{"type": "output_text", "text": "Paris", "annotations": []}],
                },
            ],
            "service_tier": "default",
            "usage": {
                "input_tokens": 1423,
                "input_tokens_details": {"cached_tokens": 1024},
                "output_tokens": 128,
            },
        },
        "chat": {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": "gpt-5-mini",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "Paris", "refusal": None},
                    "finish_reason": "stop",
                    "logprobs": None,
                }
            ],
            "usage": {
                "prompt_tokens": 12,
                "completion_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 2},
            },
        },
        "messages": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-4-5",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "x"},
                {"type": "text", "text": "Paris"},
            ],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {
                "input_tokens": 383,
                "cache_creation_input_tokens": 16,
                "cache_read_input_tokens": 1024,
                "cache_creation": {"ephemeral_1h_input_tokens": 16},
                "output_tokens": 128,
                "service_tier": "standard",
            },
        },
    }
)

#: In place of anything. None of it says that the vendor failed.
_ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    2**63,
    10**400,
    1.5,
    -1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\0",
    "\ud83d",
    "é" * 300,
    "completed",
    "tool_calls",
    [],
    {},
    [[]],
    [None, 7, "x"],
    {"type": "text"},
    {"type": "function_call"},
    {"text": {"value": "Paris"}},
)

_ERRORS: tuple[Any, ...] = (
    {"code": 429, "message": "slow"},
    {"code": "rate_limit_exceeded"},
    {"type": "overloaded_error", "message": "busy"},
    {"type": "invalid_request_error", "message": ["no"]},
    {"code": 402},
    {"code": "500"},
    {"message": {"deep": [1]}},
    "no",
    ["no"],
    {"code": [429]},
    {"code": 10**400},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One answer, and whether it may be asked for again."""

    wire: Wire
    may_be_asked_again: bool  #: it was cut short, or tells of an error that may pass


def mutant(api: str, dice: random.Random) -> Mutant:
    """Return an answer of this API that was changed at random."""
    payload = copy.deepcopy(PAYLOADS[api])
    if api == "chat" and dice.random() < 0.3:
        parts = [{"type": "text", "text": "Paris"}, {"type": "refusal", "refusal": ""}]
        payload["choices"][0]["message"]["content"] = parts
    for _ in range(dice.choice((1, 1, 2, 3, 5))):
        change(payload, dice)
    drawn = dice.random()
    if drawn < 0.1:
        return _with_an_error(payload, dice)
    body = _text_of(payload, dice)
    if drawn < 0.2:
        body = dice.choice(_BYTES)(body, dice)
    if drawn < 0.27:
        return Mutant(wire=http(body, missing=dice.randint(1, len(body))), may_be_asked_again=True)
    if drawn < 0.4:
        return _packed(body, dice)
    if drawn < 0.45:
        status = dice.choice((400, 401, 403, 404, 413, 422, 307))
        return Mutant(wire=http(body, status=status), may_be_asked_again=False)
    return Mutant(wire=http(body), may_be_asked_again=False)


def _with_an_error(payload: dict[str, Any], dice: random.Random) -> Mutant:
    """Return a payload that tells of an error, with a status of any kind."""
    payload["error"] = copy.deepcopy(dice.choice(_ERRORS))
    if dice.random() < 0.3:
        payload |= {"status": "failed"}
    status = dice.choice((200, 200, 200, 400, 408, 409, 429, 500, 503, 529))
    body = json.dumps(payload, ensure_ascii=True).encode()
    return Mutant(wire=http(body, status=status), may_be_asked_again=True)


def change(payload: dict[str, Any], dice: random.Random) -> None:
    """Delete, replace, wrap, double or exchange a value somewhere."""
    holder, key = dice.choice(list(_places(payload)) or [(payload, "id")])
    what = dice.randrange(5)
    if what == 0:
        del holder[key]
    elif what == 1:
        holder[key] = [holder[key]]
    elif what == 2:
        holder[key] = {"value": holder[key]}
    elif what == 3 and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    else:
        holder[key] = copy.deepcopy(dice.choice(_ODD))


def _places(value: Any) -> Any:
    """Yield every holder and key in the payload."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(pairs):
        # An error that is told of is drawn apart: what it means decides how often is asked.
        if key != "error":
            yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def _text_of(payload: dict[str, Any], dice: random.Random) -> bytes:
    text = json.dumps(payload, ensure_ascii=dice.random() < 0.5)
    encoding = dice.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32"))
    return text.encode(encoding, "surrogatepass")


def _flipped(body: bytes, dice: random.Random) -> bytes:
    place = dice.randrange(len(body))
    return body[:place] + bytes([body[place] ^ (1 << dice.randrange(8))]) + body[place + 1 :]


def _shortened(body: bytes, dice: random.Random) -> bytes:
    return body[: dice.randrange(1, len(body))]  # and says so: it arrived as it was sent


def _followed(body: bytes, dice: random.Random) -> bytes:
    return body + dice.choice((b"}", b"\0", b"<html>", b"\n\n", b"data: [DONE]", body))


def _preceded(body: bytes, dice: random.Random) -> bytes:
    return dice.choice((b"\n", b"\xef\xbb\xbf", b"data: ", b")]}'\n", b"\0")) + body


def _deep(body: bytes, dice: random.Random) -> bytes:
    depth = dice.choice((10, 300, 3_000, 100_000))
    return b'{"a": ' + b"[" * depth + b"]" * depth + b", " + body[1:]


_BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flipped,
    _shortened,
    _followed,
    _preceded,
    _deep,
)


def _packed(body: bytes, dice: random.Random) -> Mutant:
    packed = gzip.compress(body, 1)
    encoding = dice.choice(("gzip", "gzip", "x-gzip", "gzip, gzip", "br", "deflate", "zstd", ""))
    cut = dice.random() < 0.3
    if cut:
        packed = packed[: dice.randrange(1, len(packed))]
    if dice.random() < 0.2:
        packed = _flipped(packed, dice)
    wire = http(packed, headers={"Content-Encoding": encoding})
    # A flipped bit may hide where a stream ends.
    # The beginning of a gzip stream may be that of a deflate stream too, which ends too early.
    again = "gzip" in encoding or (cut and encoding == "deflate")
    return Mutant(wire=wire, may_be_asked_again=again)
