"""Events out of bytes: whatever the pieces, the line ends, and what stands between the events."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnmill_worker.http1.failures import TooLarge
from turnmill_worker.providers.sse import Event, Events, is_stream

ENDS = st.sampled_from(["\n", "\r\n", "\r"])
WORDS = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20)
COMMENTS = st.sampled_from(["", ": ping\n", "id: 7\nretry: 10\n", "unknown\n", "\n\n", ":\n"])


def events_of(wire: bytes, cuts: list[int]) -> list[Event]:
    reading = Events(most=1_000_000)
    places = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
    found = [event for a, b in pairwise(places) for event in reading.feed(wire[a:b])]
    assert reading.end() is None
    return found


@given(
    said=st.lists(st.tuples(WORDS, st.lists(WORDS, min_size=1, max_size=3), COMMENTS), max_size=6),
    end=ENDS,
    mark=st.booleans(),
    cuts=st.lists(st.integers(0, 300), max_size=20),
)
def test_events_are_the_same_in_whatever_pieces_and_with_whatever_line_ends_they_come(
    said: list[tuple[str, list[str], str]], end: str, mark: bool, cuts: list[int]
) -> None:
    wire, expected = "\ufeff" if mark else "", []
    for name, lines, between in said:
        wire += between + f"event: {name}\n" + "".join(f"data: {one}\n" for one in lines) + "\n"
        if data := "\n".join(lines):
            expected.append(Event(name, data.encode()))
    assert events_of(wire.replace("\n", end).encode(), cuts) == expected


def test_an_event_that_the_last_blank_line_is_missing_of_ends_with_the_stream() -> None:
    reading = Events(most=100)
    assert [*reading.feed(b"data: 1\n\ndata: [DO")] == [Event("", b"1")]
    assert [*reading.feed(b"NE]")] == []
    assert reading.end() == Event("", b"[DONE]")


@pytest.mark.parametrize("line", [b"x", b"data: x\n"])
def test_an_event_beyond_the_bound_is_too_large(line: bytes) -> None:
    reading = Events(most=1_000)
    for _ in range(990 // len(line)):
        assert [*reading.feed(line)] == []
    with pytest.raises(TooLarge):
        [*reading.feed(line * 1_000)]


def test_no_event_tells_what_was_said() -> None:
    assert "secret" not in f"{Event('delta', b'secret')!r}"


@pytest.mark.parametrize(
    ("content_type", "beginning", "found"),
    [
        ("text/event-stream", b"data: 1", True),
        ("text/event-stream", b'{"id"', False),
        ("text/event-stream", b"\n\n", None),
        ("text/event-stream; charset=utf-8", b"\xef\xbb\xbfevent: x", True),
        ("application/json", b'\n {"id": 1}', False),
        ("application/json", b": ping\n", True),
        ("application/json", b"da", None),
        ("application/json", b"data: 1", True),
        ("text/html", b"<html>", False),
        ("", b"", None),
    ],
)
def test_a_stream_is_told_from_a_document_by_its_beginning(
    content_type: str, beginning: bytes, found: bool | None
) -> None:
    assert is_stream(content_type, beginning) is found
