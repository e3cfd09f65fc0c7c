"""Lines on their way to a vendor, and from it: sent in pieces, read as they come."""

import json
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from turnmill.domain.errors import MaybeSent, ProviderError, Rejected
from turnmill_worker.http1.body import Body
from turnmill_worker.providers.answers import payload_of
from turnmill_worker.providers.batch_port import Answered, Line, Take
from turnmill_worker.providers.failures import moment_in
from turnmill_worker.providers.http import Incoming, RawAnswer
from turnmill_worker.providers.multipart import FormFile
from turnmill_worker.providers.port import Done
from turnmill_worker.providers.untrusted import CLOCKS_APART, name

#: Results that are handed over together.
_AT_ONCE = 200
_PIECE = 256 * 1024
#: Of the results of one batch: of a hundred thousand replies of half a megabyte.
RESULTS_BYTES_MAX = 50_000_000_000
#: Answers that came, and that nobody can read.
UNREADABLE = frozenset({"reply_too_large", "unreadable_reply"})

#: Reads one result; None where there is nothing to be known by it.
ReadLine = Callable[[Mapping[str, Any]], Awaitable[Answered | None]]


def file_of(name: str, lines: Sequence[Line]) -> FormFile:
    """Return the lines as a file, one below the other."""

    async def chunks() -> AsyncIterator[bytes]:
        async for piece in _joined(lines, between=b"\n"):
            yield piece

    size = sum(len(line.body) + 1 for line in lines)
    return FormFile(name=name, media_type="application/jsonl", size=size, chunks=chunks)


def array_of(lines: Sequence[Line], *, before: bytes, after: bytes) -> Body:
    """Return the lines as the elements of a JSON array, between what is given."""

    async def made() -> AsyncGenerator[bytes, None]:
        yield before
        last = len(lines) - 1
        async for piece in _joined(lines[:last], between=b","):
            yield piece
        yield lines[last].body
        yield after

    size = sum(len(line.body) for line in lines) + len(lines) - 1
    return Body(len(before) + size + len(after), made, content_type="application/json")


def reading(read: ReadLine, take: Take) -> Callable[[Incoming], Awaitable[RawAnswer]]:
    """Return what reads results line by line while they come, and hands them over.

    A line that is no JSON, or longer than a reply may be, is left out: what it was about is found
    to have no result.
    """

    async def taken(incoming: Incoming) -> RawAnswer:
        found: list[Answered] = []
        async for line in _lines(incoming):
            if (one := await _read(line, read)) is not None:
                found.append(one)
            if len(found) >= _AT_ONCE:
                await take(found)
                found = []
        if found:
            await take(found)
        return RawAnswer(incoming.status, incoming.headers, b"", incoming.framed)

    return taken


async def answered(
    payload: Mapping[str, Any], said: Callable[[Mapping[str, Any]], Awaitable[Done]]
) -> Answered | None:
    """Return what came of one line; None where there is nothing to be known by it.

    However odd what stands there, it is about that line alone.
    """
    if not (custom_id := name(payload.get("custom_id"))):
        return None
    try:
        return Answered(custom_id=custom_id, said=await said(payload))
    except ProviderError as error:
        return Answered(custom_id=custom_id, said=error)
    except (ValueError, TypeError, RecursionError):
        return Answered(custom_id=custom_id, said=Rejected("unreadable_reply"))


def as_json(payload: Mapping[str, Any]) -> bytes:
    """Return a refusal as it would have come over HTTP; what is no text is escaped."""
    return json.dumps(payload, default=dict).encode()


@contextmanager
def maybe_accepted() -> Iterator[None]:
    """Where a vendor has accepted something, and nobody can read as what: it has been done."""
    try:
        yield
    except Rejected as error:
        if error.error_code not in UNREADABLE:
            raise
        raise MaybeSent(error.error_code, request_id=error.request_id) from None


def earliest(answer: RawAnswer, within: timedelta) -> datetime:
    """Return since when something may exist at a vendor, on its own clock where it tells it."""
    now = moment_in(answer.headers.get("date", "")) or datetime.now(UTC)
    return now - within - CLOCKS_APART


async def _joined(lines: Sequence[Line], *, between: bytes) -> AsyncIterator[bytes]:
    piece = bytearray()
    for line in lines:
        piece += line.body
        piece += between
        if len(piece) >= _PIECE:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


async def _lines(incoming: Incoming) -> AsyncIterator[bytes]:
    rest = bytearray()
    is_too_long = False
    while piece := await incoming.next():
        first, *others = piece.split(b"\n")
        rest += first
        for other in others:
            if not is_too_long and rest.strip():
                yield bytes(rest)
            rest, is_too_long = bytearray(other), False
        if len(rest) > incoming.most:  # nobody waits for its end
            rest, is_too_long = bytearray(), True
    if not is_too_long and rest.strip():
        yield bytes(rest)


async def _read(line: bytes, read: ReadLine) -> Answered | None:
    said = payload_of(RawAnswer(200, {}, line))
    return None if said is None else await read(said)
