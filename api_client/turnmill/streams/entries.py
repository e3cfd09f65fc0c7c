"""One entry of a stream, as those who write and those who read it know it."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from turnmill.crypto.envelope import is_sealed, key_id_of
from turnmill.crypto.wanted import KeyWanted
from turnmill.domain.content import ToolCall, ToolOutput
from turnmill.domain.errors import DataKeyMissing
from turnmill.domain.ids import TurnId
from turnmill.domain.streaming import Place, StreamKind
from turnmill.store.codec import content_of, parts_from
from turnmill.store.readable import ODD

if TYPE_CHECKING:
    from turnmill.crypto.data_keys import DataKeys
    from turnmill.crypto.sealing import DataKey

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


def sealed(entry: Entry, turn_id: TurnId, key: "DataKey") -> Entry:
    """Return the entry as a Redis is to have it, where content is encrypted."""
    if not entry.said:
        return entry
    plain = entry.said.encode("utf-8", "surrogatepass")
    place = _place(entry, turn_id)
    return entry._replace(said=key.seal(plain, table="stream", place=place, column="said"))


def opened(entry: Entry, turn_id: TurnId, keys: "DataKeys | None") -> Entry:
    """Return the entry as it was said; blocks where a key has to be fetched.

    Raises DataKeyMissing, or SealBroken.
    """
    if not is_sealed(entry.said):
        return entry
    if keys is None:
        raise DataKeyMissing("this is encrypted, and no keys are set here")
    place, key_id = _place(entry, turn_id), key_id_of(entry.said)
    try:
        key = keys.key(key_id)
    except KeyWanted as wanted:
        keys.fetch(ids=wanted.ids)
        key = keys.key(key_id)
    plain = key.open(entry.said, table="stream", place=place, column="said")
    return entry._replace(said=plain.decode("utf-8", "surrogatepass"))


def _place(entry: Entry, turn_id: TurnId) -> str:
    return f"{turn_id.hex}/{entry.place.fence}/{entry.place.n}/{entry.kind}"


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
