"""Heads that say several times how long the answer is: a proxy has put in once more what was there.

What says the same each time is taken as said once (RFC 9110, 8.6), as browsers, curl and the SDKs'
client take it; parsers refuse it. What differs is left for them to refuse: whoever counts by the
one would take the rest for another answer. Beside chunks no length counts (RFC 9112, 6.3).
"""

import re

#: Of an answer's head, and of all answers of the kind "103 Early Hints" before it: the SDKs' client
#: reads a fifth of it.
HEAD_BYTES_MAX = 512 * 1024

_END = re.compile(rb"\r?\n\r?\n")
#: "Go on", or what is known early. 101 is an answer: to what nobody has asked for.
_IS_INTERIM = re.compile(rb"\s*(HTTP/\d\.\d 1(?!01)\d\d\b|$)")


class Heads:
    """Gives the head of one answer on when it is whole, and what is behind it as it comes."""

    __slots__ = ("_kept", "_passed", "_seen", "mended")

    def __init__(self) -> None:
        self._kept = bytearray()
        self._passed = False
        self._seen = 0
        self.mended = False  #: after this answer nothing is to be read on its connection

    def take(self, data: bytes) -> bytes:
        """Return what is to be read now; heads of answers before the answer are left out."""
        if self._passed:
            return data
        looked = max(len(self._kept) - 3, 0)
        self._kept += data
        self._seen += len(data)
        head = b""
        while not self._passed and (end := _END.search(self._kept, looked)):
            head = bytes(self._kept[: end.end()])
            del self._kept[: end.end()]
            looked, self._passed = 0, not _IS_INTERIM.match(head)
        if not self._passed:
            if self._seen <= HEAD_BYTES_MAX:
                return b""
            head, self._passed = b"", True
        rest = bytes(self._kept)
        self._kept.clear()
        return self._mended(head) + rest

    def _mended(self, head: bytes) -> bytes:
        mended = _with_one_length(head)
        self.mended |= mended != head
        return mended


def _with_one_length(head: bytes) -> bytes:
    """Return a head whose length is said once, or not at all; as it is where that is not clear."""
    lines = head.split(b"\n")
    said = [number for number, line in enumerate(lines) if _name(line) == b"content-length"]
    values = {one.strip(b" \t\r") for at in said for one in _value(lines[at]).split(b",")}
    if len(values) != 1 or any(lines[at + 1].startswith((b" ", b"\t")) for at in said):
        return head
    length = values.pop()
    if not length.isdigit():
        return head
    codings = [_value(line) for line in lines if _name(line) == b"transfer-encoding"]
    if not codings:
        lines[said[0]] = b"Content-Length: %b\r" % length
        del said[0]
    elif codings[-1].rpartition(b",")[2].strip().lower() != b"chunked":
        return head
    gone = set(said)
    kept = [line for number, line in enumerate(lines) if number not in gone]
    return b"\n".join(kept)


def _name(line: bytes) -> bytes:
    return line.partition(b":")[0].rstrip(b" \t").lower()


def _value(line: bytes) -> bytes:
    return line.partition(b":")[2]
