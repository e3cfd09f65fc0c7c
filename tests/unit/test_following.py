"""A reader is told everything once, whatever becomes of the copy that he reads."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from turnmill.domain.states import TurnState
from turnmill.domain.streaming import STARTS, Place, StreamEvent, StreamKind
from turnmill.store.turn_records import Watched
from turnmill.streams.entries import Entry
from turnmill.streams.following import MADE, Following

RUNNING = Watched(state=TurnState.RUNNING, stream=True, error_code=None, fence=7, attempt=2, step=1)
PIECES = ("Good ", "morning", ", ", "Ada", "!")
DONE = replace(RUNNING, state=TurnState.SUCCEEDED, text="".join(PIECES))


def attempt(fence: int, pieces: Sequence[str], *, n: int = 1, ends: bool = False) -> list[Entry]:
    kind = StreamKind.ATTEMPT_STARTED if n == 1 else StreamKind.ATTEMPT_RESTARTED
    said = [(kind, "")]
    said += [(StreamKind.DELTA, piece) for piece in pieces]
    said += [(StreamKind.ENDED, "succeeded")] if ends else []
    return [Entry(Place(fence, at), kind, text, n) for at, (kind, text) in enumerate(said, 1)]


COPY = attempt(5, ("Goo",)) + attempt(7, PIECES, n=2, ends=True)


def text_of(events: Sequence[StreamEvent], *, had: str = "") -> str:
    for event in events:
        had = "" if event.kind in STARTS else had + event.text
    return had


def read(entries: Sequence[Entry], *, after: Place | None = None) -> list[StreamEvent]:
    following = Following(after, RUNNING)
    return [*following.read(entries), *following.end(DONE)]


WHOLE = read(COPY)


def test_all_of_a_copy_is_told_in_order() -> None:
    assert [event.id for event in WHOLE] == [str(entry.place) for entry in COPY]
    assert text_of(WHOLE) == DONE.text


@given(st.integers(1, len(WHOLE)))
def test_behind_each_place_there_is_exactly_the_rest(place: int) -> None:
    had = WHOLE[:place]
    rest = read(COPY, after=Place.of(had[-1].id))
    assert rest == WHOLE[place:] or (place == len(WHOLE) and rest == WHOLE[-1:])


@given(st.sets(st.integers(0, len(COPY) - 1)), st.integers(0, len(WHOLE)))
def test_whatever_is_missing_the_text_is_whole_and_the_end_is_told(
    missing: set[int], place: int
) -> None:
    had = WHOLE[:place]
    left = [entry for n, entry in enumerate(COPY) if n not in missing]
    events = read(left, after=Place.of(had[-1].id) if had else None)
    assert events[-1].kind is StreamKind.ENDED
    assert [event.kind for event in events].count(StreamKind.ENDED) == 1
    assert text_of(events, had=text_of(had)) == DONE.text
    for one, other in pairwise(Place.of(event.id) for event in events):
        assert one is not None
        assert other is not None
        assert other.n == (one.n + 1 if one.fence == other.fence else 1)


@given(st.integers(1, 3))
def test_behind_what_the_store_told_the_store_tells_the_rest(place: int) -> None:
    had = list(Following(None, DONE).end(DONE))[:place]
    after = Place.of(had[-1].id)
    assert after is not None
    assert after.fence == DONE.fence + MADE
    rest = list(Following(after, DONE).end(DONE))
    assert text_of(rest, had=text_of(had)) == DONE.text
    assert rest[-1].kind is StreamKind.ENDED


def test_a_reply_that_is_another_text_than_was_said_is_told_anew() -> None:
    following = Following(None, RUNNING)
    events = list(following.read(COPY))
    events += following.end(replace(DONE, text="Something else"))
    assert text_of(events) == "Something else"


def test_a_turn_that_was_queued_again_goes_on_behind_its_first_end() -> None:
    following = Following(None, RUNNING)
    first = list(following.read(attempt(5, ("Goo",), ends=True)))
    assert [event.kind for event in first] == [StreamKind.ATTEMPT_STARTED, StreamKind.DELTA]
    assert following.has_ended
    rest = [*following.read(attempt(7, PIECES, n=2, ends=True)), *following.end(DONE)]
    assert text_of(rest) == DONE.text
