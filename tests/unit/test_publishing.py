"""What is said while a reply comes is joined, bounded, and written again where it was lost."""

import asyncio
from typing import Any

from redis.exceptions import OutOfMemoryError, ResponseError

from tests.claims import a_claim
from turnmill.domain.content import Message, ToolCall, ToolOutput
from turnmill.domain.states import TurnState
from turnmill.domain.streaming import StreamKind
from turnmill.streams.entries import MOST_BYTES, MOST_BYTES_AT_ONCE, part_from
from turnmill_worker.streams.publishing import Publishing
from turnmill_worker.streams.writing import Writing
from turnmill_worker.turn.run import _begins_step

NEVER: Any = None


def published(*pieces: str, fence: int = 7) -> Publishing:
    publishing = Publishing(a_claim(stream=True, fence=fence), lambda _: None, first=True)
    say(publishing, *pieces)
    return publishing


def say(publishing: Publishing, *pieces: str) -> None:
    async def all_of_them() -> None:
        for piece in pieces:
            await publishing.emit(piece)

    asyncio.run(all_of_them())


def writing_of(publishing: Publishing) -> Writing:
    writing = Writing(publishing, keep_seconds=60)
    writing.drain()
    return writing


def ids(commands: list[bytes]) -> list[str]:
    return [one.split(b"\r\n")[-10].decode() for one in commands if b"XADD" in one]


def test_pieces_that_come_together_are_one_entry() -> None:
    publishing = published("Good ", "morning")
    publishing.ended(TurnState.SUCCEEDED)
    entries = publishing.drain()
    assert [entry.kind for entry in entries] == ["attempt_started", "delta", "ended"]
    assert entries[1].said == "Good morning"
    assert [entry.place for entry in entries] == [(7, 1), (7, 2), (7, 3)]


def test_a_call_of_a_tool_stands_between_the_texts_around_it() -> None:
    publishing = published("before")
    call = ToolCall(id="1", name="weather", arguments='{"city": "Rome"}')
    publishing.tool_call(call)
    say(publishing, "behind")
    _, before, called, behind = publishing.drain()
    assert (before.said, part_from(called.said), behind.said) == ("before", call, "behind")


def test_no_entry_is_larger_than_its_bound() -> None:
    entries = published(*["x" * 1000] * 200).drain()
    assert all(len(entry.said) <= MOST_BYTES_AT_ONCE for entry in entries)
    assert sum(len(entry.said) for entry in entries[1:]) == 200_000


def test_what_is_too_long_is_left_to_the_store_and_its_end_too() -> None:
    publishing = published("x" * MOST_BYTES)
    publishing.ended(TurnState.SUCCEEDED)
    assert publishing.drain() == []
    assert writing_of(publishing).is_done


def test_an_attempt_that_is_over_says_nothing_more() -> None:
    publishing = published("before")
    publishing.ended(TurnState.RETRYING)
    say(publishing, "behind")
    assert [entry.kind for entry in publishing.drain()] == ["attempt_started", "delta"]


def test_nothing_but_text_is_a_piece() -> None:
    publishing = published(NEVER, "", 3)  # type: ignore[arg-type]
    assert [entry.kind for entry in publishing.drain()] == [StreamKind.ATTEMPT_STARTED]


def test_a_copy_that_was_lost_is_written_again_under_the_same_ids() -> None:
    publishing = published("one")
    writing = writing_of(publishing)
    first = writing.commands()
    assert writing.took([b"7-1", b"7-2", 1]) is None
    assert not writing.is_behind
    say(publishing, "two")
    writing.drain()
    assert ids(writing.commands()) == ["7-3"]
    assert writing.took([None]) is None  # NOMKSTREAM: there is no such stream
    again = writing.commands()
    assert ids(again) == ["7-1", "7-2", "7-3"]
    assert again[:2] == first[:2]


def test_where_an_answer_was_lost_the_server_is_asked_how_far_it_came() -> None:
    writing = writing_of(published("one"))
    writing.commands()
    writing.doubt()
    writing.answered([(b"7-1", [])])
    assert ids(writing.commands()) == ["7-2"]


def test_an_attempt_falls_silent_when_a_later_one_speaks() -> None:
    writing = writing_of(published("one"))
    writing.commands()
    too_late = ResponseError("The ID specified in XADD is equal or smaller than the target")
    assert writing.took([too_late, too_late, 1]) is None
    assert writing.asks
    writing.answered([(b"8-1", [])])
    assert writing.is_done
    assert writing.commands() == []


def test_a_copy_with_a_hole_is_thrown_away_and_written_again() -> None:
    publishing = published("one")
    writing = writing_of(publishing)
    writing.commands()
    full = OutOfMemoryError("command not allowed when used memory > 'maxmemory'")
    assert writing.took([full, b"7-2", 1]) is full
    writing.answered([(b"7-2", [])])
    again = writing.commands()
    assert again[0].startswith(b"*2\r\n$3\r\nDEL")
    assert ids(again) == ["7-1", "7-2"]


def test_of_a_step_that_waits_for_outputs_nothing_was_said_before() -> None:
    call = ToolCall(id="call_0", name="add", arguments="{}")
    said = [Message.of("user", "hello"), Message("assistant", (call,))]
    answered = [*said, Message("tool", (ToolOutput(call_id="call_0", output="3"),))]
    lost = {"n": 2, "step": 2, "stream": True}  # with its worker, in the middle of the turn
    assert _begins_step(a_claim(**lost, messages=said)) is True
    assert _begins_step(a_claim(**lost, messages=answered)) is None
    assert _begins_step(a_claim(n=2, stream=True)) is None
