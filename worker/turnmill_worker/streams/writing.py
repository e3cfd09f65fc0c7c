"""One attempt in a Redis: what is to be said to the server, and what its answers mean."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from turnmill.crypto.data_keys import DataKeys
from turnmill.crypto.wanted import KeyWanted, Owner
from turnmill.domain.errors import DataKeyMissing
from turnmill.streams.entries import Entry, fields_of, key_of, sealed
from turnmill_worker.streams.publishing import Publishing

#: A stream holds no more entries, of all attempts of its turn; trimmed in whole nodes.
_MOST_IN_A_STREAM = 20_000
_TRIMMED = (b"MAXLEN", b"~", b"%d" % _MOST_IN_A_STREAM)
#: What a Redis says to an entry that does not come behind its last one.
_TOO_LATE = "equal or smaller"


class Writing:
    """One attempt. Its entries are kept while it lasts: a copy that was lost is written again."""

    def __init__(
        self, publishing: Publishing, *, keep_seconds: float, keys: DataKeys | None = None
    ) -> None:
        """The copy is kept for so long after it was written to, and sealed by `keys`."""
        self.publishing = publishing
        self.ended_at: float | None = None
        self._key = key_of(publishing.turn_id).encode()
        self._keep_seconds = keep_seconds
        self._keys = keys
        self._kept: list[Entry] = []
        self._written = 0  # so many of them, as far as is known
        self._renewed_at = -keep_seconds
        self._in_doubt = False  # nobody knows how far it was written
        self._torn = False  # one is missing before others

    @property
    def is_behind(self) -> bool:
        """Tell whether there is something to write."""
        return not self.publishing.is_left_out and self._written < len(self._kept)

    @property
    def is_done(self) -> bool:
        """Tell whether nothing is left to be written, ever."""
        return self.publishing.is_left_out or (self.publishing.is_over and not self.is_behind)

    @property
    def asks(self) -> bool:
        """Tell whether the server has to say first how far it was written."""
        return self._in_doubt

    def drain(self) -> None:
        """Take what was said since the last time."""
        self._kept += self._as_written(self.publishing.drain())
        if self.publishing.is_left_out:
            self._kept.clear()
            self._written = 0
        if self.publishing.is_over and self.ended_at is None:
            self.ended_at = time.monotonic()

    def _as_written(self, entries: list[Entry]) -> list[Entry]:
        """Seal what was said, where content is encrypted: on the thread that brings it."""
        if self._keys is None or not entries:
            return entries
        owner = Owner(self.publishing.user_id)
        try:
            if self._keys.missing((owner,)):
                self._keys.fetch(owners=(owner,))
            key = self._keys.current(owner)
        except (DataKeyMissing, KeyWanted):
            self.publishing.leave_out()  # readers are told the whole by the store
            return []
        return [sealed(one, self.publishing.turn_id, key) for one in entries]

    def question(self) -> bytes:
        """Return the command that asks for the last entry."""
        return packed(b"XREVRANGE", self._key, b"+", b"-", b"COUNT", b"1")

    def answered(self, answer: Any) -> None:
        """Learn how far it was written; a later attempt makes this one fall silent."""
        fence, n = (0, 0) if not answer else map(int, answer[0][0].split(b"-"))
        self._in_doubt = False
        if fence > self.publishing.fence:
            self.publishing.leave_out()
            self.drain()
        self._written = min(n, len(self._kept)) if fence == self.publishing.fence else 0

    def doubt(self) -> None:
        """Ask before anything is written again."""
        self._in_doubt = True

    def commands(self) -> list[bytes]:
        """Return what writes the entries that are missing; `took` is given the answers."""
        found = [packed(b"DEL", self._key)] if self._torn else []
        if self._torn:
            self._written = 0
        found += [self._xadd(entry) for entry in self._kept[self._written :]]
        now = time.monotonic()
        if now - self._renewed_at > self._keep_seconds / 4 or self.publishing.is_over:
            self._renewed_at = now
            found.append(packed(b"PEXPIRE", self._key, b"%d" % round(self._keep_seconds * 1000)))
        return found

    def took(self, answers: Sequence[Any]) -> BaseException | None:
        """Learn what became of the commands; returns an error that is the server's own trouble."""
        trouble: BaseException | None = None
        answers = answers[1:] if self._torn else answers
        self._torn, fails = False, False
        for answer in answers[: len(self._kept) - self._written]:
            if isinstance(answer, BaseException):
                fails = self._in_doubt = True
                trouble = None if _TOO_LATE in str(answer) else answer
            elif answer is None:  # there is no such stream any more: it was lost
                self._written, self._renewed_at = 0, -self._keep_seconds
                return trouble
            elif fails:
                self._torn = True
            else:
                self._written += 1
        return trouble

    def _xadd(self, entry: Entry) -> bytes:
        fence, n = entry.place
        only_if_there = () if n == 1 else (b"NOMKSTREAM",)
        place = b"%d-%d" % (fence, n)
        return packed(b"XADD", self._key, *only_if_there, *_TRIMMED, place, *fields_of(entry))


def packed(*words: bytes) -> bytes:
    """Return a command as it goes over the wire: redis-py takes ten times as long for it."""
    return b"*%d\r\n%b" % (len(words), b"".join(_each(words)))


def _each(words: Sequence[bytes]) -> Iterator[bytes]:
    for word in words:
        yield b"$%d\r\n%b\r\n" % (len(word), word)
