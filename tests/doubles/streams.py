"""Answers as their vendors stream them: event by event, with the faults that streams have."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Event = Mapping[str, Any]


def pieces_of(text: str, size: int = 4) -> list[str]:
    """Return the text in pieces of so many UTF-16 units, at least one: so characters are cut."""
    units = text.encode("utf-16-le", "surrogatepass")
    cut = [units[at : at + 2 * size] for at in range(0, len(units), 2 * size)] or [b""]
    return [one.decode("utf-16-le", "surrogatepass") for one in cut]


def response_events(payload: Event, *, size: int = 4) -> list[Event]:
    """Return the events of a response, as OpenAI numbers and nests them."""
    begun = {**payload, "status": "in_progress", "output": [], "usage": None}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for index, item in enumerate(payload["output"]):
        at = {"output_index": index}
        events.append({"type": "response.output_item.added", **at, "item": {**item, "content": []}})
        for place, part in enumerate(item.get("content") or ()):
            where = {**at, "item_id": item["id"], "content_index": place}
            field = "text" if part["type"] == "output_text" else "refusal"
            kind = f"response.{part['type']}"
            events += [
                {"type": f"{kind}.delta", **where, "delta": one, "logprobs": []}
                for one in pieces_of(part[field], size)
            ]
            events.append({"type": f"{kind}.done", **where, field: part[field]})
        if "arguments" in item:
            kind = "response.function_call_arguments"
            events += [
                {"type": f"{kind}.delta", **at, "item_id": item["id"], "delta": one}
                for one in pieces_of(item["arguments"], size)
            ]
        events.append({"type": "response.output_item.done", **at, "item": item})
    events.append({"type": f"response.{payload['status']}", "response": payload})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def chat_events(payload: Event, *, size: int = 4, usage: bool = True) -> list[Event | str]:
    """Return the chunks of a chat completion, and the word that ends them."""
    choice = payload["choices"][0]
    message = choice["message"]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "refusal": None}]
    for field in ("content", "refusal"):
        if message.get(field) is not None:
            deltas += [{field: one} for one in pieces_of(message[field], size)]
    for index, call in enumerate(message.get("tool_calls") or ()):
        arguments = call["function"]["arguments"]
        head = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
        deltas.append({"tool_calls": [head]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": one}}]}
            for one in pieces_of(arguments, size)
        ]
    top = {name: payload.get(name) for name in ("id", "created", "model", "service_tier")}
    top["object"] = "chat.completion.chunk"
    chunks: list[Event | str] = [
        {**top, "choices": [{"index": 0, "delta": one, "finish_reason": None}]} for one in deltas
    ]
    finish = {"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}
    chunks.append({**top, "choices": [finish]})
    if usage:
        chunks.append({**top, "choices": [], "usage": payload.get("usage")})
    return [*chunks, "[DONE]"]


def message_events(payload: Event, *, size: int = 4) -> list[Event]:
    """Return the events of a message, pings among them."""
    usage = payload.get("usage")
    begun = {**payload, "content": [], "stop_reason": None, "stop_sequence": None}
    if usage:
        begun["usage"] = {**usage, "output_tokens": 1}
    events: list[Event] = [{"type": "message_start", "message": begun}, {"type": "ping"}]
    for index, block in enumerate(payload["content"]):
        head, deltas = _BLOCKS[block["type"]](block, size)
        events.append({"type": "content_block_start", "index": index, "content_block": head})
        events += [
            {"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas
        ]
        events.append({"type": "content_block_stop", "index": index})
    ending = {"stop_reason": payload["stop_reason"], "stop_sequence": None}
    if details := payload.get("stop_details"):
        ending["stop_details"] = details
    counted = {"output_tokens": usage["output_tokens"]} if usage else {}
    events.append({"type": "message_delta", "delta": ending, "usage": counted})
    return [*events, {"type": "message_stop"}]


def _text_block(block: Event, size: int) -> tuple[Event, list[Event]]:
    deltas = [{"type": "text_delta", "text": one} for one in pieces_of(block["text"], size)]
    return {"type": "text", "text": ""}, [*deltas]


def _thinking_block(block: Event, size: int) -> tuple[Event, list[Event]]:
    deltas: list[Event] = [
        {"type": "thinking_delta", "thinking": one} for one in pieces_of(block["thinking"], size)
    ]
    deltas.append({"type": "signature_delta", "signature": block["signature"]})
    return {"type": "thinking", "thinking": "", "signature": ""}, deltas


def _summary_block(block: Event, size: int) -> tuple[Event, list[Event]]:
    """Return a summary of what was said before: its words come at once, what seals it beside."""
    sealed = {name: block.get(name) for name in ("content", "encrypted_content")}
    delta = {"type": "compaction_delta", **sealed}
    return {**block, "content": None, "encrypted_content": None}, [delta]


def _tool_block(block: Event, size: int) -> tuple[Event, list[Event]]:
    written = json.dumps(block["input"])
    deltas = [
        {"type": "input_json_delta", "partial_json": one} for one in ("", *pieces_of(written, size))
    ]
    return {**block, "input": {}}, [*deltas]


_BLOCKS: Mapping[str, Callable[[Event, int], tuple[Event, list[Event]]]] = {
    "text": _text_block,
    "compaction": _summary_block,
    "thinking": _thinking_block,
    "tool_use": _tool_block,
}


def written(event: Event | str, *, named: bool = True) -> bytes:
    """Return an event as it goes over the wire."""
    if isinstance(event, str):
        return f"data: {event}\n\n".encode()
    name = f"event: {event['type']}\n" if named and "type" in event else ""
    return f"{name}data: {json.dumps(event)}\n\n".encode()


ERRORS: Mapping[str, Event] = {
    "responses": {
        "type": "error",
        "code": "server_overloaded",
        "message": "Scripted.",
        "param": None,
    },
    "chat": {"error": {"message": "Scripted.", "code": "server_overloaded", "type": "server"}},
    "messages": {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "Scripted."},
    },
}


def faulty(fault: str, events: Sequence[bytes], error: bytes) -> list[bytes | str]:
    """Return what a stream with this fault sends: bytes, and then perhaps "cut" or "stall".

    A fault is `stream_cut`, `stream_stall`, `stream_error`, `stream_garbage` or `stream_no_end`;
    with a colon the number of events before it follows, where that is not half of them.
    """
    name, _, number = fault.partition(":")
    if not name.startswith("stream_"):
        return [*events]
    at = int(number) if number else len(events) // 2
    before, after = events[:at], events[at:]
    endings: dict[str, list[bytes | str]] = {
        "stream_cut": [after[0][: len(after[0]) // 2], "cut"] if after else ["cut"],
        "stream_stall": ["stall"],
        "stream_error": [error],
        "stream_garbage": [b"data: {\n\n", *after],
        "stream_no_end": [],
    }
    return [*before, *endings[name]]
