"""What one reader of a stream has, and what he is told next: pure, with no clock and no thread."""

from collections.abc import Iterable, Iterator
from typing import Any

from turnmill.domain.content import ToolCall
from turnmill.domain.streaming import STARTS, Place, StreamEvent, StreamKind
from turnmill.store.turn_records import Watched
from turnmill.streams.entries import Entry, part_from

#: Events that are made of what Postgres holds stand under fences that no attempt ever has: whoever
#: resumes behind one of them is never taken for somebody who had a part of the copy.
MADE = 10**12

_NOWHERE = Place(0, 0)


class Following:
    """One reader: entries of the copy go in, and events that are new to him come out.

    One who was told an attempt from its beginning can be given the rest of it should the copy be
    lost. Of one who resumes behind a place it is not known what he has: his copy goes on at that
    very place, without a gap, or he is told the whole.
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
        # What was read last, each entry right behind the other: he begins with the last he had.
        self._at = Place(after.fence, max(after.n - 1, 0))
        self._has_whole = False  # pieces are all that there are of the attempt's
        self._torn = 0  # an attempt of which entries are missing
        self._end = _NOWHERE  # where the copy says that the turn has ended
        self._pieces: list[str] = []  # since the attempt began, or behind his place
        self._told = False

    @property
    def begins_behind(self) -> Place:
        """Return behind which place the copy is to be read."""
        return Place(self._after.fence, max(self._after.n - 1, 0))

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
        return not (self._has_whole and "".join(self._pieces) == watched.text)

    @property
    def has_ended(self) -> bool:
        """Tell whether the copy says that the turn has ended. The store has the last word."""
        return self._end > _NOWHERE

    def end(self, watched: Watched) -> Iterator[StreamEvent]:
        """Yield what the reader has not had of a turn that is final, and that it has ended."""
        rest = self._rest_of(watched)
        if rest is None:
            yield from self._made(watched)
            return
        place = self._at
        if rest:
            place = _behind(place)
            yield _event(place, StreamKind.DELTA, watched, text=rest)
        yield _event(_behind(place), StreamKind.ENDED, watched, **_ending(watched))

    def _rest_of(self, watched: Watched) -> str | None:
        """Return what the reader lacks of the text, or None when nobody knows what he has."""
        if self._at == _NOWHERE or (self._at < self._after and self._end != self._after):
            return None  # the copy never came to his place
        if watched.text is None:
            return ""
        had = "".join(self._pieces)
        if self._has_whole:
            return watched.text[len(had) :] if watched.text.startswith(had) else None
        return "" if self.has_ended and watched.text.endswith(had) else None

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
            self._pieces.clear()
            self._has_whole = True
            if self._resumes and not self._told and self._after == _NOWHERE:
                kind = StreamKind.ATTEMPT_RESTARTED  # whatever he has is void
            return _event(entry.place, kind, entry)
        if kind is StreamKind.DELTA:
            if entry.place > self._after:
                self._pieces.append(entry.said)
            return _event(entry.place, kind, entry, text=entry.said)
        if kind is StreamKind.ENDED:
            self._end = entry.place
            self._at = Place(entry.place.fence, entry.place.n - 1)
            return None  # it may have been queued again meanwhile: the store is asked
        part = part_from(entry.said)
        name = "call" if isinstance(part, ToolCall) else "output"
        return None if part is None else _event(entry.place, kind, entry, **{name: part})

    def _made(self, watched: Watched) -> Iterator[StreamEvent]:
        """Yield the whole, for a reader of whom it is not known what he has."""
        void = self._told or (self._resumes and not self._had_made)
        start = StreamKind.ATTEMPT_RESTARTED if void else StreamKind.ATTEMPT_STARTED
        said: list[tuple[StreamKind, dict[str, Any]]] = []
        if watched.text is not None:
            said += [(start, {}), (StreamKind.DELTA, {"text": watched.text})]
        said.append((StreamKind.ENDED, _ending(watched)))
        for n, (kind, more) in enumerate(said, 1):
            if n > self._had_made or kind is StreamKind.ENDED:
                yield _event(Place(_made_under(watched), n), kind, watched, **more)


def _event(place: Place, kind: StreamKind, of: Entry | Watched, **more: Any) -> StreamEvent:
    return StreamEvent(id=str(place), kind=kind, attempt=of.attempt, step=of.step, **more)


def _made_under(watched: Watched) -> int:
    return watched.fence + MADE if watched.stream and watched.fence else watched.fence


def _behind(place: Place) -> Place:
    return Place(place.fence, place.n + 1)


def _ending(watched: Watched) -> dict[str, Any]:
    return {"state": watched.state, "error_code": watched.error_code}
