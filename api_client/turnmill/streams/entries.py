"""One entry of a stream, as those who write and those who read it know it."""

import json
from collections.abc import Iterable
from typing import NamedTuple

from turnmill.domain.content import ToolCall, ToolOutput
from turnmill.domain.ids import TurnId
from turnmill.domain.streaming import Place, StreamKind
from turnmill.store.codec import content_of, parts_from
from turnmill.store.readable import ODD

#: Of an attempt: what would be more is left to Postgres.
MOST_ENTRIES = 10_000
#: What one delta of an attempt, and all of them, may come to.
MOST_BYTES_AT_ONCE = 64 * 1024
MOST_BYTES = 4 * 2**20

_KEY = "turnmill:stream:"
_KIND, _SAID = b"k", b"s"


class Entry(NamedTuple):
    """An event on its way."""

    place: Place
    kind: StreamKind
    said: str = ""  #: a text, or JSON of a tool's call or output
    attempt: int = 1
    step: int = 1

    def __repr__(self) -> str:
        """Tell where it stands, and never what is said."""
        return f"Entry({self.place}, {self.kind})"


def key_of(turn_id: TurnId) -> str:
    """Return where a Redis keeps the stream of a turn."""
    return f"{_KEY}{turn_id}"


def fields_of(entry: Entry) -> tuple[bytes, ...]:
    """Return what a Redis is given."""
    kind = f"{entry.kind}:{entry.attempt}:{entry.step}"
    return (_KIND, kind.encode(), _SAID, entry.said.encode("utf-8", "surrogatepass"))


def entry_from(identifier: bytes, fields: Iterable[bytes]) -> Entry | None:
    """Return what a Redis has kept, or None for what was written by nobody of ours."""
    try:
        pairs = iter(fields)
        said = dict(zip(pairs, pairs, strict=True))
        fence, _, n = identifier.partition(b"-")
        kind, attempt, step = said[_KIND].decode().split(":")
        text = said[_SAID].decode("utf-8", "surrogatepass")
        place = Place(int(fence), int(n))
        return Entry(place, StreamKind(kind), text, int(attempt), int(step))
    except (KeyError, ValueError):
        return None


def said_of_part(part: ToolCall | ToolOutput) -> str:
    """Return a tool's call, or its output, as JSON."""
    return json.dumps(content_of([part]), ensure_ascii=False, separators=(",", ":"))


def part_from(said: str) -> ToolCall | ToolOutput | None:
    """Return what `said_of_part` made."""
    try:
        (part,) = parts_from(json.loads(said))
    except ODD:
        return None
    return part if isinstance(part, ToolCall | ToolOutput) else None
