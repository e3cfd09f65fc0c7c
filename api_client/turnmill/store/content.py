"""Content where it enters and leaves the store: what was said, as JSON and as the domain has it."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, overload

from turnmill.domain.errors import Rejected, UnreadableRow
from turnmill.domain.json_values import Unreadable
from turnmill.domain.parts import Part
from turnmill.store.readable import ODD


class StoredHistory(Sequence[Part]):
    """Messages as the JSON that the store has returned, read anew by whoever looks.

    A provider looks once, and then waits for seconds with thousands of others: read at once, each
    history would be kept in memory as lists of strings, several times its size.
    """

    __slots__ = ("_json", "_length")

    def __init__(self, rows: str) -> None:
        """`rows` is a JSON array of [role, content]."""
        self._json = rows
        self._length: int | None = None  # asked by `list()` and `[*…]` after they began to read

    def __iter__(self) -> Iterator[Part]:
        return iter(self._parts())

    def __len__(self) -> int:
        return len(self._parts()) if self._length is None else self._length

    @overload
    def __getitem__(self, index: int) -> Part: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Part]: ...
    def __getitem__(self, index: int | slice) -> Part | Sequence[Part]:
        return self._parts()[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._parts() == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<StoredHistory of {len(self._json)} characters>"  # never what was said

    def _parts(self) -> list[Part]:
        try:
            parts = [Part(role, text_of(content)) for role, content in json.loads(self._json)]
        except ODD:
            # It will not become readable: the turn ends, and says why.
            raise Rejected(UnreadableRow.code, hint=UnreadableRow.hint) from None
        self._length = len(parts)
        return parts


def text_of(content: object) -> str:
    """Return the text of a message's content; raises one of `readable.ODD` for any other thing."""
    if not isinstance(content, list):
        raise TypeError("content is a list of parts")
    if len(content) == 1 and content[0].get("type") == "text":
        return str(content[0]["text"])
    return "".join(part["text"] for part in content if part.get("type") == "text")


def shown_text(content: object) -> str:
    """Return the text of a message for a listing, in which one that cannot be read is marked."""
    try:
        return text_of(content)
    except ODD:
        return "\N{REPLACEMENT CHARACTER}"


def text_parts(text: str) -> list[dict[str, str]]:
    """Return the content of a message that is text only."""
    return [{"type": "text", "text": text}]


def content_hash(text: str) -> bytes:
    """Return what two messages under one idempotency key are compared by: content only."""
    return hashlib.sha256(text.encode()).digest()


def object_of(found: Any) -> dict[str, Any]:
    """Return what settings and metadata are, or raise TypeError."""
    if not isinstance(found, dict) or isinstance(found, Unreadable):
        raise TypeError("not an object")
    return found
