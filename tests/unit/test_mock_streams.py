"""The mock in pieces: as told, at the pace that is told, and no further than a fault lets it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_mock_provider import a_request, answer, scripted
from turnmill.domain.errors import MaybeSent, Overloaded, ProviderError, Rejected
from turnmill_worker.providers.mock.executions import Executions
from turnmill_worker.providers.mock.provider import MockProvider
from turnmill_worker.providers.port import Done, Request


def heard(request: Request, mock: MockProvider | None = None) -> tuple[list[str], Any]:
    """Return the pieces that came, and the answer or what was raised."""
    pieces: list[str] = []

    async def emit(piece: str) -> None:
        pieces.append(piece)

    try:
        return pieces, asyncio.run((mock or MockProvider()).send(request, emit))
    except ProviderError as error:
        return pieces, error


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list of how long the mock has waited each time; nobody really waits."""
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", note)
    return waits


def test_a_reply_comes_in_the_chunks_that_are_told() -> None:
    chunks = ["It ", "is su", "nny 🌞", "."]
    pieces, reply = heard(a_request(metadata=scripted(chunks=chunks)))
    assert pieces == chunks
    assert reply.text == "It is sunny 🌞."
    assert answer(MockProvider(), a_request(metadata=scripted(chunks=chunks))).text == reply.text


@pytest.mark.parametrize("script", [{}, {"reply": "Some  words\nhere "}, {"reply": ""}])
def test_joined_words_are_the_reply(script: dict[str, Any]) -> None:
    pieces, reply = heard(a_request("Hello", metadata=scripted(**script)))
    assert "".join(pieces) == reply.text
    assert len(pieces) == len(reply.text.split())


def test_a_turn_that_says_what_is_replied_displaces_the_chunks_of_its_session() -> None:
    settings = scripted(chunks=["of the ", "session"])
    told = a_request(settings=settings, metadata=scripted(reply="of the turn"))
    assert answer(MockProvider(), told).text == "of the turn"


def test_a_reply_takes_as_long_whether_it_is_streamed_or_not(waits: list[float]) -> None:
    request = a_request(metadata=scripted(reply="one two three four", tokens_per_second=2))
    answer(MockProvider(), request)
    assert waits == [2.0]
    waits.clear()
    heard(request)
    assert [round(wait, 1) for wait in waits] == [0.5, 1.0, 1.5, 2.0]  # the clock stood still


@pytest.mark.parametrize(
    ("fault", "comes"),
    [
        ({"cut": 2}, ["one ", "two "]),
        ({"cut": 0}, []),
        ("cut", []),
        ({"cut": 9}, ["one ", "two ", "three"]),
        ({"maybe_sent": 1}, ["one "]),
        ({"overloaded": 1}, ["one "]),
    ],
)
def test_a_fault_lets_as_many_pieces_come_as_are_told(fault: object, comes: Sequence[str]) -> None:
    request = a_request(metadata=scripted(reply="one two three", faults=[fault]))
    pieces, error = heard(request)
    assert pieces == comes
    assert isinstance(error, MaybeSent | Overloaded)
    assert isinstance(asyncio.run(MockProvider().send(_again(request))), Done)


def _again(request: Request) -> Request:
    return a_request(metadata=request.metadata, attempt=request.attempt + 1)


def test_a_reply_that_was_cut_is_found_whole_by_who_asks(tmp_path: Path) -> None:
    mock = MockProvider(ledger=tmp_path / "ledger")
    request = a_request(metadata=scripted(reply="one two three", faults=[{"cut": 1}]))
    heard(request, mock)
    found = asyncio.run(mock.check(request))
    assert isinstance(found, Done)
    assert found.text == "one two three"


@pytest.mark.parametrize(("fault", "comes"), [("stall", 1), ({"stall": 2}, 2), ("hang", 0)])
def test_a_stalled_reply_goes_silent_and_is_given_up_by_who_waits(
    fault: object, comes: int, tmp_path: Path
) -> None:
    mock = MockProvider(ledger=tmp_path / "ledger")
    request = a_request(metadata=scripted(reply="one two three", faults=fault))
    pieces: list[str] = []

    async def listen() -> None:
        async def emit(piece: str) -> None:
            pieces.append(piece)

        await asyncio.wait_for(mock.send(request, emit), timeout=0.05)

    with pytest.raises(TimeoutError):
        asyncio.run(listen())
    assert len(pieces) == comes
    [call] = Executions(tmp_path / "ledger").calls()
    assert call.ended_at is None


@pytest.mark.parametrize(
    "script",
    [
        {"chunks": "text"},
        {"chunks": []},
        {"chunks": ["a", ""]},
        {"chunks": ["a"], "reply": "a"},
        {"tokens_per_second": 0},
        {"tokens_per_second": "fast"},
        {"reply": 7},
        {"faults": [{"cut": -1}]},
        {"faults": [{"ok": 1}]},
        {"faults": [{"cut": 1, "stall": 2}]},
        {"faults": 3},
        {"fautls": ["cut"]},
        {"at_step": 0},
    ],
)
def test_a_script_of_a_stream_that_makes_no_sense_is_refused(script: dict[str, Any]) -> None:
    pieces, error = heard(a_request(metadata={"mock": script}))
    assert pieces == []
    assert isinstance(error, Rejected)
    assert error.error_code == "setting_refused"


def test_work_in_the_background_takes_as_long_as_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnmill_worker.providers.mock.provider.time.time", lambda: 1000.0)
    script = scripted(faults="running", reply="one two three four", tokens_per_second=2, latency=1)
    pieces, begun = heard(a_request(metadata=script))
    assert pieces == []
    assert begun.native_ref.endswith("@1003.000000")
