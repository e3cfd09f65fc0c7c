"""A reply that comes in pieces: from a vendor's events to its answer, and to whoever reads along.

The events of each API are put together to the object that the vendor would have answered at once,
and that is read by the same code. So what holds of an answer holds of a stream.
"""

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any, Protocol

from pydantic_core import from_json

from turnmill.domain.checks import storable
from turnmill.domain.errors import Rejected
from turnmill_worker.http1.failures import CutShort, TooLarge
from turnmill_worker.providers.answers import VALUES_MAX
from turnmill_worker.providers.foreign import name_of
from turnmill_worker.providers.http import AT_ONCE, Incoming, RawAnswer
from turnmill_worker.providers.port import Done, Emit
from turnmill_worker.providers.sse import Event, Events, is_stream
from turnmill_worker.providers.untrusted import paired

logger = logging.getLogger("turnmill.streaming")

#: So many events are read at once; then others have their turn.
_EVENTS_AT_ONCE = 200
#: Blank lines and the like before the first event.
_BEGINNING_MAX = 64 * 1024
#: Seconds for what follows the last event: nothing, as a rule, and then the connection is kept.
_REST_WITHIN = 0.05


class Told:
    """What was given to `emit` of a reply: whole characters, and never anything twice."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._next: list[str] = []
        self._shown: list[str] = []
        self._half = ""  #: the first half of a character
        self._at: tuple[int, ...] = ()
        self._is_deaf = False
        self.in_step = True  #: False: what comes next is not known to follow what was said

    def add(self, text: object, *, at: tuple[int, ...] = ()) -> None:
        """Say this next; `at` is its place in the reply.

        Out of order, it is said in the end, when everything has its place.
        """
        if not isinstance(text, str) or at < self._at:
            self.in_step = False
        if self.in_step and isinstance(text, str):
            self._at = at
            self._next.append(text)

    def goes_on(self) -> None:
        """Let what comes next be of another answer, which goes on with the same reply."""
        self._at = ()

    async def say(self) -> None:
        """Say what was added."""
        if not self._next:
            return
        piece = self._half + "".join(self._next)
        self._next.clear()
        self._half = piece[-1:] if "\ud800" <= piece[-1:] <= "\udbff" else ""
        await self._say(storable(paired(piece[: len(piece) - len(self._half)])))

    async def ended(self, reply: Done) -> Done:
        """Say the rest of a reply, and return it: with the words that were said.

        Where a vendor's last event and the pieces before it disagree, as after a server has
        stripped its text, the pieces are what people have read.
        """
        said = "".join(self._shown)
        text = reply.text
        if text.startswith(said):
            await self._say(text[len(said) :])
            return reply
        if not self.in_step:
            detail = "its pieces do not make up its text"
            raise Rejected("unreadable_reply", detail=detail, kept=reply.kept, used=reply)
        return reply.with_text(said)

    async def _say(self, piece: str) -> None:
        if not piece:
            return
        self._shown.append(piece)
        if self._is_deaf:
            return
        try:
            await self._emit(piece)
        except Exception as error:  # noqa: BLE001
            # The answer is worth more than those who read along.
            self._is_deaf = True
            logger.error("a reply is not read along any more: %s", name_of(error))


class Assembly(Protocol):
    """What the events of an API amount to."""

    #: the object that would have been answered at once; None until the last event has come
    payload: Mapping[str, Any] | None

    def take(self, event: Mapping[str, Any], told: Told, *, size: int) -> None:
        """Take the next event, of so many bytes; raises TooLarge."""
        ...

    def take_word(self, word: bytes, told: Told) -> None:
        """Take an event that is no object: the end, or one that cannot be read."""
        ...


class Size:
    """How much of a stream is kept, in characters or bytes."""

    def __init__(self, most: int) -> None:
        self._left = most

    def add(self, size: int) -> None:
        """Count what is kept; raises TooLarge beyond the bound."""
        self._left -= size
        if self._left < 0:
            raise TooLarge


async def answered(incoming: Incoming, assembly: Assembly, told: Told) -> RawAnswer:
    """Return what came of a stream, or of a document where the server sent one all the same.

    Raises CutShort where its last event is missing, whatever came before.
    """
    beginning = b""
    found: bool | None = None
    while found is None and len(beginning) < _BEGINNING_MAX:
        piece = await incoming.next()
        beginning += piece
        found = is_stream(incoming.headers.get("content-type", ""), beginning)
        if not piece:
            break
    if not found and (beginning.strip() or not incoming.says_stream):
        return await incoming.document(beginning)
    spoilt = await _assembled(incoming, beginning, assembly, told)
    if assembly.payload is None:
        raise CutShort
    await incoming.ends_within(_REST_WITHIN)
    answer = RawAnswer(incoming.status, incoming.headers, spoilt, incoming.framed)
    return answer._replace(payload=assembly.payload)


async def _assembled(incoming: Incoming, piece: bytes, assembly: Assembly, told: Told) -> bytes:
    """Give all events to the assembly; returns the beginning of one that could not be read."""
    events, spoilt = Events(most=incoming.most), b""
    while piece:
        for number, event in enumerate(events.feed(piece), 1):
            unread = await _taken(event, assembly, told)
            spoilt = spoilt or unread
            if assembly.payload is not None:
                await told.say()
                return spoilt
            if number % _EVENTS_AT_ONCE == 0:
                await told.say()
                await asyncio.sleep(0)
        await told.say()
        piece = await incoming.next()
    if last := events.end():
        unread = await _taken(last, assembly, told)
        spoilt = spoilt or unread
        await told.say()
    return spoilt


async def _taken(event: Event, assembly: Assembly, told: Told) -> bytes:
    data = event.data
    if len(data) <= AT_ONCE:
        found = _object_of(data)
    elif sum(map(data.count, (b",", b"[", b"{"))) > VALUES_MAX:
        raise TooLarge
    else:
        found = await asyncio.to_thread(_object_of, data)
    if found is not None and event.name:
        found.setdefault("type", event.name)
    if found is None or not isinstance(found.get("type", ""), str):
        assembly.take_word(data, told)
        return data[:_BEGINNING_MAX]
    assembly.take(found, told, size=len(data))
    return b""


def _object_of(data: bytes) -> dict[str, Any] | None:
    """Return the object that an event holds, read as leniently as a body; None for no object."""
    try:
        found = from_json(data)
    except ValueError:
        try:
            found = json.loads(data.decode(errors="replace"))  # that takes lone surrogates
        except (ValueError, RecursionError):
            return None
    return found if isinstance(found, dict) else None
