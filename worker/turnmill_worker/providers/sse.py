"""Events out of a stream of bytes: https://html.spec.whatwg.org/multipage/server-sent-events.html.

Bytes become text only event by event: where the stream was cut into pieces, a character or a line
end may be cut too.
"""

from collections.abc import Iterator
from typing import NamedTuple

from turnmill_worker.http1.failures import TooLarge

_BOM = b"\xef\xbb\xbf"
#: What the first line of a stream may begin with; anything else is no stream.
_BEGINNINGS = (b"data", b"event", b"id", b"retry", b":")


class Event(NamedTuple):
    """One event; those without data are none."""

    name: str
    data: bytes

    def __repr__(self) -> str:
        return f"Event({self.name!r}, <{len(self.data)} bytes>)"  # never what was said


class Events:
    """Reads one stream."""

    __slots__ = ("_after_cr", "_data", "_most", "_name", "_rest", "_size", "_started")

    def __init__(self, *, most: int) -> None:
        """An event of more than `most` bytes is too large."""
        self._most = most
        self._rest = bytearray()  #: a line that has not ended
        self._data: list[bytes] = []
        self._size = 0
        self._name = ""
        self._after_cr = False
        self._started = False

    def feed(self, wire: bytes) -> Iterator[Event]:
        """Yield the events that end within these bytes; raises TooLarge."""
        if self._after_cr and wire:
            wire = wire.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in wire:
            self._after_cr = wire.endswith(b"\r")
            wire = wire.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        first, *others = wire.split(b"\n")
        self._rest += first
        if others:
            last = others.pop()
            whole = bytes(self._rest)
            self._rest[:] = last
            for line in (whole, *others):
                if event := self._take(line):
                    yield event
        if len(self._rest) > self._most:
            raise TooLarge

    def end(self) -> Event | None:
        """Return what the stream's end ends, where a server leaves out the last blank line."""
        self._take(bytes(self._rest))
        self._rest.clear()
        return self._take(b"")

    def _take(self, line: bytes) -> Event | None:
        if not self._started:
            self._started = True
            line = line.removeprefix(_BOM)
        if not line:
            return self._ended()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._size += len(value) + 1
            if self._size > self._most:
                raise TooLarge
            self._data.append(value)
        elif field == b"event":
            self._name = value.decode(errors="replace")
        return None

    def _ended(self) -> Event | None:
        data, name = self._data, self._name
        self._name = ""
        if not data:
            return None
        self._data, self._size = [], 0
        whole = data[0] if len(data) == 1 else b"\n".join(data)
        return Event(name, whole) if whole else None


def is_stream(content_type: str, beginning: bytes) -> bool | None:
    """Tell whether a body with this beginning is a stream of events; None: more has to be seen.

    Some servers answer with a whole document, whatever they call it.
    """
    shown = beginning.removeprefix(_BOM).lstrip(b" \t\r\n")
    if not shown or beginning in (_BOM[:1], _BOM[:2]):
        return None
    if shown[:1] in (b"{", b"["):
        return False
    if "event-stream" in content_type.lower():
        return True
    if any(one.startswith(shown) and one != shown for one in _BEGINNINGS):
        return None
    return shown.startswith(_BEGINNINGS)
