"""Where copies of replies are read from: nothing at all, this process, or a Redis."""

from __future__ import annotations  # what is carried is imported by those who read it

import threading
import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol

from turnmill.forking import in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from contextlib import AbstractContextManager

    from turnmill.domain.ids import TurnId
    from turnmill.domain.streaming import Place
    from turnmill.streams.entries import Entry

#: Of all streams of a process together, in characters: the oldest ones go first.
_MOST_HELD = 64 * 2**20


class Copy(Protocol):
    """One turn's stream, as one reader reads it."""

    @property
    def is_behind(self) -> bool:
        """Tell whether there may be more than `take` has returned so far."""
        ...

    def take(self) -> Sequence[Entry]:
        """Return what has come since. At most one thread at a time."""
        ...


class Copies(Protocol):
    """All streams that can be read here."""

    def watching(
        self, turn_id: TurnId, behind: Place, wake: Callable[[], None]
    ) -> AbstractContextManager[Copy]:
        """Give the turn's stream behind a place. `wake` is called, on any thread, for more."""
        ...

    def forget(self, turn_ids: Collection[TurnId]) -> bool:
        """Forget these streams, and take nothing more for them; False where that could not be."""
        ...

    def close(self) -> None:
        """Let go of whatever it holds; who reads is told nothing more."""
        ...


class Nothing:
    """A copy of which nothing comes."""

    is_behind = False

    def take(self) -> Sequence[Entry]:
        """Return nothing."""
        return ()


class NoCopies:
    """Nothing is carried: readers are given the whole when it stands in the store."""

    def watching(
        self, turn_id: TurnId, behind: Place, wake: Callable[[], None]
    ) -> AbstractContextManager[Copy]:
        """Give a stream of which nothing comes."""
        return nullcontext(Nothing())

    def forget(self, turn_ids: Collection[TurnId]) -> bool:
        """Do nothing."""
        return True

    def close(self) -> None:
        """Do nothing."""


class LocalCopies:
    """Streams of turns that are run and read in one process. Thread-safe."""

    def __init__(self, *, seconds: float) -> None:
        """A stream is kept for so long after its last entry."""
        self._seconds = seconds
        self.start_afresh()
        in_child(self)

    def start_afresh(self) -> None:
        """Begin with nothing: see `turnmill.forking`."""
        self._lock = threading.Lock()
        self._streams: dict[TurnId, _Stream] = {}
        self._readers: dict[TurnId, list[Callable[[], None]]] = {}
        self._held = 0

    def write(self, turn_id: TurnId, entries: Sequence[Entry]) -> None:
        """Put entries at the end, and wake those who read."""
        with self._lock:
            stream = self._streams.pop(turn_id, None) or _Stream()
            self._streams[turn_id] = stream  # as the youngest
            stream.entries.extend(entries)
            size = sum(len(one.said) for one in entries)
            stream.size += size
            self._held += size
            stream.written_at = time.monotonic()
            self._forget_old()
            readers = list(self._readers.get(turn_id, ()))
        for wake in readers:
            wake()

    @contextmanager
    def watching(
        self, turn_id: TurnId, behind: Place, wake: Callable[[], None]
    ) -> Iterator[_LocalCopy]:
        """See `Copies`."""
        with self._lock:
            self._readers.setdefault(turn_id, []).append(wake)
        try:
            yield _LocalCopy(self, turn_id, behind)
        finally:
            with self._lock:
                readers = self._readers[turn_id]
                readers.remove(wake)
                if not readers:
                    del self._readers[turn_id]

    def forget(self, turn_ids: Collection[TurnId]) -> bool:
        """See `Copies`; what is written later goes as all does, by its age."""
        with self._lock:
            for one in turn_ids:
                stream = self._streams.pop(one, None)
                self._held -= 0 if stream is None else stream.size
        return True

    def behind(self, turn_id: TurnId, place: Place) -> list[Entry]:
        """Return the entries behind a place."""
        with self._lock:
            self._forget_old()
            stream = self._streams.get(turn_id)
            return [] if stream is None else [one for one in stream.entries if one.place > place]

    def close(self) -> None:
        """Forget all."""
        with self._lock:
            self._streams.clear()
            self._held = 0

    def _forget_old(self) -> None:
        last = time.monotonic() - self._seconds
        while self._streams:
            turn_id, oldest = next(iter(self._streams.items()))
            if oldest.written_at > last and self._held <= _MOST_HELD:
                return
            self._held -= oldest.size
            del self._streams[turn_id]


class _Stream:
    """The entries of one turn."""

    __slots__ = ("entries", "size", "written_at")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.size = 0
        self.written_at = 0.0


class _LocalCopy:
    """One turn's stream in this process, as one reader reads it."""

    is_behind = False

    def __init__(self, copies: LocalCopies, turn_id: TurnId, behind: Place) -> None:
        self._copies = copies
        self._turn_id = turn_id
        self._at = behind

    def take(self) -> Sequence[Entry]:
        """Return what has come since."""
        found = self._copies.behind(self._turn_id, self._at)
        if found:
            self._at = found[-1].place
        return found
