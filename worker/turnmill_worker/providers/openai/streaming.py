"""What OpenAI's events amount to: a response, or a chat completion."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import from_json

from turnmill_worker.http1.failures import TooLarge
from turnmill_worker.providers.port import Usage
from turnmill_worker.providers.streaming import Size, Told
from turnmill_worker.providers.untrusted import mapping, mappings, name, paired
from turnmill_worker.providers.usages import of_openai

#: Each holds the response as it stands at its end.
_LAST = frozenset(
    {"response.completed", "response.failed", "response.incomplete", "response.cancelled"}
)
_DONE = b"[DONE]"
_DEEPEST = 50  #: objects within one another, of a delta

#: Fields of a chunk that name something: said once or with every chunk, never in pieces.
_NAMES = frozenset({"format", "id", "index", "name", "role", "type"})


class ResponseEvents:
    """The events of `POST /responses`; the last one holds the response as a whole.

    https://developers.openai.com/api/reference/resources/responses/streaming-events
    """

    def __init__(self, *, most: int) -> None:
        self.payload: Mapping[str, Any] | None = None
        self.id = ""  #: of the response, as soon as it is known
        self.named = asyncio.Event()
        self.has_ended = False  #: the response has, and not only its stream
        self._size = Size(most)
        self._number: int | None = None
        self._items: dict[int, Any] = {}

    def take(self, event: Mapping[str, Any], told: Told, *, size: int) -> None:
        """Take the next event. One that is missing shows by the numbers."""
        self._count(event, told)
        kind = event.get("type")
        if kind == "response.output_text.delta":
            self._add(event, told)
        elif kind in _LAST:
            self._end(mapping(event.get("response")))
        elif kind == "error" or _has_failed(event):
            self.payload = {"error": mapping(event.get("error")) or {**event, "type": ""}}
        elif kind == "response.output_item.done":
            self._size.add(size)
            self._items[_index(event.get("output_index"))] = event.get("item")
        elif not self.id and (given := name(mapping(event.get("response")).get("id"))):
            self.id = given
            self.named.set()

    def take_word(self, word: bytes, told: Told) -> None:
        """Pass over it: the last event holds everything."""
        told.in_step = False

    @property
    def running(self) -> Mapping[str, Any]:
        """The response, as one that works in the background."""
        return {"id": self.id, "status": "in_progress"}

    def _count(self, event: Mapping[str, Any], told: Told) -> None:
        number, before = event.get("sequence_number"), self._number
        if isinstance(number, int):
            self._number = number
            if before is not None and number > before + 1:
                told.in_step = False

    def _add(self, event: Mapping[str, Any], told: Told) -> None:
        delta = event.get("delta")
        self._size.add(len(delta) if isinstance(delta, str) else 0)
        at = (_index(event.get("output_index")), _index(event.get("content_index")))
        told.add(delta, at=at)

    def _end(self, response: Mapping[str, Any]) -> None:
        self.id = name(response.get("id")) or self.id
        self.has_ended = True
        if not response.get("output") and self._items:  # as some servers leave it
            items = [self._items[index] for index in sorted(self._items)]
            response = {**response, "output": items}
        self.payload = response


class ChatEvents:
    """The chunks of `POST /chat/completions`: the first choice, merged.

    https://platform.openai.com/docs/api-reference/chat-streaming
    """

    def __init__(self, *, most: int, counted: Callable[[Usage], None] | None = None) -> None:
        """`counted` is told what was used so far, by servers that say so with every chunk."""
        self.payload: Mapping[str, Any] | None = None
        self._size = Size(most)
        self._counted = counted
        self._top: dict[str, Any] = {}
        self._message: dict[str, Any] = {}
        self._content: list[object] = []
        self._finish: object = None
        self._is_spoilt = False

    def take(self, event: Mapping[str, Any], told: Told, *, size: int) -> None:
        """Take the next chunk."""
        choices = mappings(event.get("choices"))
        if not isinstance(event.get("choices") or [], list):
            self._spoil(told)
        if any(one.get("error") for one in (event, *choices[:1])) or _is_error(event):
            self.payload = event
            return
        for key in ("id", "model", "service_tier"):
            if event.get(key) is not None:
                self._top[key] = event[key]
        self._count(event, choices)
        for choice in choices:
            if not choice.get("index"):
                self._take_choice(choice, told, size=size)

    def take_word(self, word: bytes, told: Told) -> None:
        """Take the end; anything else could have been a part of the reply."""
        if word.strip() != _DONE:
            self._spoil(told)
        elif self._finish is not None:
            # What is spoilt is no reply, but paid for.
            self.payload = {**self._top} if self._is_spoilt else self._completion()

    def _count(self, event: Mapping[str, Any], choices: list[Mapping[str, Any]]) -> None:
        """Take what was used, wherever the server puts it: each time it is the sum so far."""
        usage = event.get("usage") or mapping(event.get("x_groq")).get("usage")
        usage = usage or next((one["usage"] for one in choices if one.get("usage")), None)
        if usage:
            self._top["usage"] = usage
            if self._counted is not None:
                self._counted(of_openai(self._top))

    def _take_choice(self, choice: Mapping[str, Any], told: Told, *, size: int) -> None:
        given = choice.get("delta")
        delta = dict(mapping(given))
        content = delta.pop("content", None)
        if not isinstance(given or {}, dict) or not isinstance(content or "", str | list | dict):
            self._spoil(told)
        elif content:
            self._size.add(len(content) if isinstance(content, str) else size)
            self._content.append(content)
            told.add(content if isinstance(content, str) else _text_of(content))
        if delta:
            self._merge(self._message, delta)
        if choice.get("finish_reason") is not None:
            self._finish = choice["finish_reason"]

    def _spoil(self, told: Told) -> None:
        """Note that something is missing: no reply comes of it."""
        self._is_spoilt = True
        told.in_step = False

    def _completion(self) -> dict[str, Any]:
        message = {"role": "assistant", "content": _joined(self._content), **self._message}
        finished = {key: _whole(value) for key, value in message.items()}
        choice = {"index": 0, "message": finished, "finish_reason": self._finish}
        return {**self._top, "choices": [choice]}

    def _merge(self, into: dict[str, Any], delta: Mapping[str, Any], *, depth: int = 0) -> None:
        """Merge what came into what is there: texts as their pieces."""
        if depth > _DEEPEST:
            raise TooLarge
        for key, value in delta.items():
            if isinstance(value, str):
                self._size.add(len(value))
                self._merge_text(into, key, value)
            elif isinstance(value, dict):
                inner = into.get(key)
                into[key] = inner if isinstance(inner, dict) else {}
                self._merge(into[key], value, depth=depth + 1)
            elif isinstance(value, list):
                self._merge_list(into, key, value, depth=depth + 1)
            elif value is not None or key not in into:
                self._size.add(len(key))
                into[key] = value

    def _merge_text(self, into: dict[str, Any], key: str, value: str) -> None:
        there = into.get(key)
        if key in _NAMES:
            into[key] = value or there
        elif isinstance(there, _Pieces):
            there.all.append(value)
        else:
            into[key] = _Pieces(value)

    def _merge_list(self, into: dict[str, Any], key: str, given: list[Any], *, depth: int) -> None:
        """Merge parts by their index; those without one follow one another.

        Some servers give every call the same.
        """
        there = into.get(key)
        parts = into[key] = there if isinstance(there, list) else []
        for one in given:
            self._size.add(64)
            index = one.get("index") if isinstance(one, dict) else None
            known = _part(parts, index) if index is not None else None
            if known is None or _begins_another(known, one):
                known = {} if isinstance(one, dict) else one
                parts.append(known)
            if isinstance(one, dict):
                self._merge(known, one, depth=depth)


class _Pieces:
    """A text that comes in pieces."""

    def __init__(self, piece: str) -> None:
        self.all = [piece]

    @property
    def are_an_object(self) -> bool:
        """Tell whether they are the JSON of one, so that nothing can follow."""
        if not self.all[-1].rstrip().endswith("}"):
            return False  # most do not
        try:
            return isinstance(from_json("".join(self.all)), dict)
        except ValueError:
            return False


def _whole(value: Any) -> Any:
    if isinstance(value, _Pieces):
        return paired("".join(value.all))
    if isinstance(value, dict):
        return {key: _whole(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_whole(one) if isinstance(one, dict) else one for one in value]
    return value


def _joined(content: list[object]) -> object:
    """Return the content as a text, or as parts where some of it came so; None where none came."""
    if not content:
        return None
    texts = [one for one in content if isinstance(one, str)]
    if len(texts) == len(content):
        return paired("".join(texts))
    parts: list[object] = []
    for one in content:
        parts += [{"type": "text", "text": one}] if isinstance(one, str) else mappings(one)
    return parts


def _text_of(content: object) -> str:
    kinds = ("text", "output_text")
    texts = [one.get("text") for one in mappings(content) if one.get("type") in kinds]
    return "".join(one for one in texts if isinstance(one, str))


def _part(parts: list[Any], index: object) -> dict[str, Any] | None:
    """Return the part of this index: nearly always the last one."""
    for one in reversed(parts):
        if isinstance(one, dict) and one.get("index") == index:
            return one
    return None


def _has_failed(event: Mapping[str, Any]) -> bool:
    """Tell whether the response has, and not a part of it, such as a call: the last event says."""
    kind = event.get("type") or ""
    is_of_part = kind.startswith("response.") and kind.endswith(".failed")
    return bool(event.get("error")) and "response" not in event and not is_of_part


def _begins_another(call: Mapping[str, Any], delta: Mapping[str, Any]) -> bool:
    """Tell whether a delta begins a call of its own, though it has the index of a whole one."""
    known, more = mapping(call.get("function")), mapping(delta.get("function"))
    if not (known.get("name") and more.get("name")):
        return False
    given, new = call.get("id"), delta.get("id")
    is_told = bool(new != given if new and given else more.get("arguments"))
    return is_told and isinstance(said := known.get("arguments"), _Pieces) and said.are_an_object


def _is_error(event: Mapping[str, Any]) -> bool:
    return event.get("type") == "error" or event.get("object") == "error"


def _index(value: object) -> int:
    return value if isinstance(value, int) else 0
