"""What one reader of a stream has, and what he is told next: pure, with no clock and no thread."""

from collections.abc import Iterable, Iterator
from typing import Any

from turnmill.domain.content import ToolCall
from turnmill.domain.streaming import STARTS, Place, StreamEvent, StreamKind
from turnmill.store.records import Watched
from turnmill.streams.entries import Entry, part_from, start_from

#: Events that are made of what Postgres holds stand under fences that no attempt ever has: whoever
#: resumes behind one of them is never taken for somebody who had a part of the copy.
MADE = 10**12

_NOWHERE = Place(0, 0)


class Following:
    """One reader: entries of the copy go in, and events that are new to him come out.

    The attempt in which he stood is read from its beginning, silently up to his place. So it is
    known what he has, and he can be given the rest of it should the copy be lost.
    """

    def __init__(self, after: Place | None, watched: Watched) -> None:
        """`after` is the last that he had, and `watched` the turn as it stood when he came."""
        self._resumes = after is not None
        self._had_made = 0  # so many of the events that are made of what the store holds
        if after is not None and watched.is_final and after.fence == _made_under(watched):
            self._had_made = after.n
        if after is None or not 0 < after.fence <= watched.fence:
            after = _NOWHERE  # of another turn, or made of the store's: what he has is not known
        self._after = after
        self._at = _NOWHERE  # what was read last, each entry right behind the other
        self._torn = 0  # an attempt of which entries are missing
        self._end = _NOWHERE  # where the copy says that the turn has ended
        self._pieces: list[str] = []  # since the attempt began
        self._attempt, self._step = 0, 1
        self._told = False

    @property
    def begins_behind(self) -> Place:
        """Return behind which place the copy is to be read."""
        return Place(self._after.fence, 0)

    def read(self, entries: Iterable[Entry]) -> Iterator[StreamEvent]:
        """Yield what is new to the reader."""
        for entry in entries:
            if not self._comes_next(entry):
                continue
            event = self._taken(entry)
            if event is not None and entry.place > self._after:
                self._told = True
                yield event

    def lacks(self, watched: Watched) -> bool:
        """Tell whether the copy of a turn that has ended may still bring something."""
        if not watched.stream or not watched.fence or self._had_made:
            return False
        if self._end > _NOWHERE:
            return False
        return not (self._is_known and "".join(self._pieces) == watched.text)

    @property
    def has_ended(self) -> bool:
        """Tell whether the copy says that the turn has ended. The store has the last word."""
        return self._end > _NOWHERE

    def end(self, watched: Watched) -> Iterator[StreamEvent]:
        """Yield what the reader has not had of a turn that is final, and that it has ended."""
        had = "".join(self._pieces)
        whole = had if watched.text is None else watched.text
        if not self._is_known or not whole.startswith(had):
            yield from self._made(watched)
            return
        place = self._at
        if rest := whole[len(had) :]:
            place = _behind(place)
            yield self._event(place, StreamKind.DELTA, text=rest)
        yield self._event(_behind(place), StreamKind.ENDED, **_ending(watched))

    @property
    def _is_known(self) -> bool:
        """Tell whether what was read of the attempt is what the reader has of it."""
        if self._at == _NOWHERE:
            return False
        if self._after == _NOWHERE:
            return True  # he was told from a beginning on
        return self._at >= self._after or self._end == self._after

    def _comes_next(self, entry: Entry) -> bool:
        """Tell whether the entry comes next. From where one is missing, the attempt is left out."""
        fence, n = entry.place
        if entry.place <= self._at or fence == self._torn:
            return False
        if n != (self._at.n + 1 if fence == self._at.fence else 1):
            self._torn = fence
            return False
        self._at = entry.place
        self._end = _NOWHERE
        return True

    def _taken(self, entry: Entry) -> StreamEvent | None:
        kind = entry.kind
        if kind in STARTS:
            self._attempt, self._step = start_from(entry.said)
            self._pieces.clear()
            if self._resumes and not self._told and self._after == _NOWHERE:
                kind = StreamKind.ATTEMPT_RESTARTED  # whatever he has is void
            return self._event(entry.place, kind)
        if kind is StreamKind.DELTA:
            self._pieces.append(entry.said)
            return self._event(entry.place, kind, text=entry.said)
        if kind is StreamKind.ENDED:
            self._end = entry.place
            self._at = Place(entry.place.fence, entry.place.n - 1)
            return None  # it may have been queued again meanwhile: the store is asked
        part = part_from(entry.said)
        name = "call" if isinstance(part, ToolCall) else "output"
        return None if part is None else self._event(entry.place, kind, **{name: part})

    def _made(self, watched: Watched) -> Iterator[StreamEvent]:
        """Yield the whole, for a reader of whom it is not known what he has."""
        void = self._told or (self._resumes and not self._had_made)
        start = StreamKind.ATTEMPT_RESTARTED if void else StreamKind.ATTEMPT_STARTED
        said: list[tuple[StreamKind, dict[str, Any]]] = []
        if watched.text is not None:
            said += [(start, {}), (StreamKind.DELTA, {"text": watched.text})]
        said.append((StreamKind.ENDED, _ending(watched)))
        self._attempt, self._step = watched.attempt, watched.step
        for n, (kind, more) in enumerate(said, 1):
            if n > self._had_made or kind is StreamKind.ENDED:
                yield self._event(Place(_made_under(watched), n), kind, **more)

    def _event(self, place: Place, kind: StreamKind, **more: Any) -> StreamEvent:
        return StreamEvent(id=str(place), kind=kind, attempt=self._attempt, step=self._step, **more)


def _made_under(watched: Watched) -> int:
    return watched.fence + MADE if watched.stream and watched.fence else watched.fence


def _behind(place: Place) -> Place:
    return Place(place.fence, place.n + 1)


def _ending(watched: Watched) -> dict[str, Any]:
    return {"state": watched.state, "error_code": watched.error_code}
