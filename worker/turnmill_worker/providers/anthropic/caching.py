"""Breakpoints: up to where the vendor is to keep a request, so that the next one reads it there.

Nothing is kept without them, and what is kept costs a quarter more once and a tenth from then on.
So they stand where the next request begins in the same way: after the tools, after the system
prompt, and at the growing tail. The last request's tail has one, too: the vendor looks for what it
keeps no further back than twenty blocks, and a round of tools may bring more.
https://platform.claude.com/docs/en/build-with-claude/prompt-caching
"""

from collections.abc import Iterator, Mapping
from typing import Any

from turnmill_worker.providers.pairing import is_blank
from turnmill_worker.providers.parameters import prompt_cache_of
from turnmill_worker.providers.port import Request

_MARK = "cache_control"
_AN_HOUR = "1h"
#: Of the tail: with tools and system as many as the vendor takes.
_TAILS = 2
#: The same where it holds a thread, and sets one itself.
_TAILS_OF_THREAD = 1
#: Blocks that it takes one on; on thinking, say, it does not.
_MARKED = frozenset({"document", "image", "search_result", "text", "tool_result", "tool_use"})


def mark(body: dict[str, Any], request: Request) -> None:
    """Set the breakpoints, unless the session wants none, or has set its own."""
    wanted = prompt_cache_of(request.settings)
    if wanted == "off":
        return
    messages = body["messages"]
    if _MARK in body or any(_MARK in block for block in _blocks_in(messages)):
        return
    sign = {"type": "ephemeral"} | ({"ttl": _AN_HOUR} if wanted == _AN_HOUR else {})
    if tools := body.get("tools"):
        tools[-1][_MARK] = sign
    if system := body.get("system"):
        body["system"] = [{"type": "text", "text": system, _MARK: sign}]
    _in_blocks(messages)
    if not request.is_single:
        _mark_tails(messages, sign, tails=_TAILS_OF_THREAD if "thread" in body else _TAILS)


def _in_blocks(messages: list[dict[str, Any]]) -> None:
    """Let each text of the user's be a block: with its breakpoint, and later without, it is one."""
    for message in messages:
        content = message["content"]
        if message["role"] == "user" and isinstance(content, str):
            message["content"] = [{"type": "text", "text": content}]


def _mark_tails(messages: list[dict[str, Any]], sign: Mapping[str, str], *, tails: int) -> None:
    left = tails
    for message in reversed(messages):
        if message["role"] != "user":
            continue
        blocks = message["content"]
        place = next((n for n in reversed(range(len(blocks))) if _takes_mark(blocks[n])), None)
        if place is not None:
            message["content"] = [*blocks]
            message["content"][place] = {**blocks[place], _MARK: sign}
            left -= 1
        if not left:
            break


def _takes_mark(block: Mapping[str, Any]) -> bool:
    kind = block.get("type")
    return kind in _MARKED and not (kind == "text" and is_blank(block.get("text") or ""))


def _blocks_in(messages: list[dict[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for message in messages:
        if not isinstance(message["content"], str):
            yield from message["content"]
