"""What Anthropic's events amount to: a message."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from turnmill_worker.providers.port import Usage
from turnmill_worker.providers.streaming import Size, Told
from turnmill_worker.providers.untrusted import mapping, paired
from turnmill_worker.providers.usages import of_anthropic

Counted = Callable[[Usage], None]
#: Of a delta: what it is, and how far a thought is by now. A block that had it is not taken back.
_OF_EVENTS = frozenset({"type", "estimated_tokens"})


class MessageEvents:
    """The events of `POST /v1/messages`: a message, its blocks, and what is added to them.

    https://platform.claude.com/docs/en/build-with-claude/streaming
    """

    def __init__(self, *, most: int, counted: Counted | None = None) -> None:
        """`counted` is told what was used so far."""
        self.payload: Mapping[str, Any] | None = None
        self._size = Size(most)
        self._counted = counted
        self._message: dict[str, Any] | None = None
        self._blocks: dict[int, _Block] = {}
        self._is_spoilt = False

    def take(self, event: Mapping[str, Any], told: Told, *, size: int) -> None:
        """Take the next event; kinds that are not known, and pings, say nothing."""
        match event.get("type"):
            case "content_block_delta":
                self._add(event, told, size=size)
            case "content_block_start":
                self._begin(event, told, size=size)
            case "message_start":
                self._message = _begun(mapping(event.get("message")))
                self._size.add(size)
                self._tell_count()
            case "message_delta":
                self._change(event, told)
            case "message_stop":
                self._end()
            case "error":
                self.payload = event
            case None:
                self._spoil(told)
            case _:
                pass

    def take_word(self, word: bytes, told: Told) -> None:
        """Take what cannot be read."""
        self._spoil(told)

    def _begin(self, event: Mapping[str, Any], told: Told, *, size: int) -> None:
        index, block = event.get("index"), event.get("content_block")
        if type(index) is not int or index in self._blocks or not isinstance(block, dict):
            self._spoil(told)
            return
        self._size.add(size)
        self._blocks[index] = made = _Block(block, index=index)
        if made.is_text and block.get("text"):
            told.add(block["text"], at=(index,))

    def _add(self, event: Mapping[str, Any], told: Told, *, size: int) -> None:
        index, delta = event.get("index"), mapping(event.get("delta"))
        text = delta.get("text", "")
        block = self._blocks.get(index) if isinstance(index, int) else None
        if block is None or not delta or not isinstance(text, str):
            self._spoil(told)
            return
        self._size.add(block.change(delta, size=size))
        if text and block.is_text:
            told.add(text, at=(block.index,))

    def _spoil(self, told: Told) -> None:
        """Note that something is missing, or cannot be placed: no reply comes of it."""
        self._is_spoilt = True
        told.in_step = False

    def _change(self, event: Mapping[str, Any], told: Told) -> None:
        """Take the message's end: counts are sums until now, what is absent stays as it was."""
        if self._message is None:
            self._spoil(told)
            return
        usage = {**mapping(self._message.get("usage"))}
        usage |= {key: one for key, one in mapping(event.get("usage")).items() if one is not None}
        self._message |= {**mapping(event.get("delta")), "usage": usage}
        self._tell_count()

    def _tell_count(self) -> None:
        """Tell what was used until now."""
        if self._counted is not None and self._message is not None:
            self._counted(of_anthropic(self._message))

    def _end(self) -> None:
        """End the message, unless it has not said why it ends: then something is missing."""
        if self._message is None or self._message.get("stop_reason") is None:
            return
        blocks = [self._blocks[index].whole() for index in sorted(self._blocks)]
        spoilt = self._is_spoilt or any(one is None for one in blocks)
        if spoilt:  # no reply, but paid for
            self.payload = {
                name: self._message[name] for name in ("model", "usage") if name in self._message
            }
        else:
            self.payload = {**self._message, "content": blocks}


def _begun(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message as it stands at its start: what it says of its output then is no sum."""
    usage = message.get("usage")
    if not isinstance(usage, dict):
        return {**message}
    return {**message, "usage": {key: one for key, one in usage.items() if key != "output_tokens"}}


class _Block:
    """A block of content, and what is added to its texts."""

    def __init__(self, block: dict[str, Any], *, index: int) -> None:
        self.index = index
        self._block = block
        self._added: dict[str, list[str]] = {}
        self.is_text = block.get("type") == "text"

    def change(self, delta: Mapping[str, Any], *, size: int) -> int:
        """Take a delta of any kind, and return how much is kept of it.

        A thought, its signature, a call's arguments: texts are added to, citations to their list.
        """
        kept = 0
        for field, value in delta.items():
            if field in _OF_EVENTS:
                continue
            if field == "citation":
                self._block["citations"] = [*(self._block.get("citations") or ()), value]
                kept += size
            elif isinstance(value, str):
                self._added.setdefault(field, []).append(value)
                kept += len(value)
            elif value is not None:
                self._block[field] = value
                kept += size
        return kept

    def whole(self) -> dict[str, Any] | None:
        """Return the block with all that was added, or None where its arguments are no JSON."""
        block = dict(self._block)
        arguments = "".join(self._added.pop("partial_json", ()))
        for field, pieces in self._added.items():
            begun = block.get(field)
            block[field] = paired("".join([begun if isinstance(begun, str) else "", *pieces]))
        if arguments:
            try:
                block["input"] = json.loads(paired(arguments))
            except (ValueError, RecursionError):
                return None
        return block
