"""What OpenAI speaks: bytes as they are, or events that hold them and end with what was counted."""

import base64
import binascii
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from turnmill.domain.errors import MaybeSent, ProviderError, Rejected
from turnmill_worker.providers.answers import payload_of
from turnmill_worker.providers.failures import error_of_inside, raise_error_inside, words_of_body
from turnmill_worker.providers.http import Incoming, RawAnswer
from turnmill_worker.providers.port import Usage
from turnmill_worker.providers.sse import Event, Events
from turnmill_worker.providers.untrusted import count, mapping

_EVENT_MAX = 2**24


#: Where a reader takes breath: the further up, the better.
_BREATHS = ("\n\n", "\n", ". ", "? ", "! ", "; ", ", ", " ")


def pieces_of(text: str, *, most: int) -> list[str]:
    """Return a text in pieces of up to so many characters, cut where a reader takes breath."""
    pieces: list[str] = []
    while len(text) > most:
        ends = (text.rfind(one, most // 2, most - len(one)) + len(one) for one in _BREATHS)
        end = next((one for one in ends if one > most // 2), most)
        pieces.append(text[:end])
        text = text[end:]
    return [one for one in (*pieces, text) if one.strip()]


def usage_of(spoken: Sequence["Spoken"]) -> Usage:
    """Return what all pieces have taken together: unknown where it is of one of them."""
    used = [one.usage() for one in spoken]
    told, said = [one.input_tokens for one in used], [one.output_tokens for one in used]
    return Usage(
        input_tokens=None if None in told else sum(one or 0 for one in told),
        output_tokens=None if None in said else sum(one or 0 for one in said),
        said=tuple(said for one in used for said in one.said),
    )


async def _as_they_are(incoming: Incoming) -> AsyncIterator[bytes]:
    if _is_json(incoming.headers):
        raise _no_sound((await incoming.document(b"")).body)
    while piece := await incoming.next():
        yield piece


def _is_json(headers: Mapping[str, str]) -> bool:
    return "json" in headers.get("content-type", "").lower()


def _no_sound(body: bytes) -> ProviderError:
    """Return what was said where a sound should be, though the status is a 2xx."""
    try:
        raise_error_inside(payload_of(RawAnswer(200, {}, body)) or {})
    except ProviderError as error:
        return error
    return Rejected("unreadable_reply", detail=words_of_body(body))


class Spoken:
    """One answer of `/v1/audio/speech`."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._usage: Mapping[str, Any] | None = None
        self._tells = False  #: it came as events
        self._ended = False
        self.is_whole = False

    async def pieces(self, incoming: Incoming) -> AsyncIterator[bytes]:
        """Yield the sound. Raises MaybeSent where its last event is missing."""
        if not incoming.says_stream:
            async for piece in _as_they_are(incoming):
                yield piece
            self.is_whole = incoming.framed
            return
        self._tells = True
        events = Events(most=_EVENT_MAX)
        while wire := await incoming.next():
            for event in events.feed(wire):
                if sound := self._taken(event):
                    yield sound
        if (last := events.end()) and (sound := self._taken(last)):
            yield sound
        if not self._ended:
            raise MaybeSent("truncated")
        self.is_whole = True

    def whole(self, answer: RawAnswer) -> bytes:
        """Return the sound of an answer that is there. Raises MaybeSent for half of one."""
        if "event-stream" not in answer.headers.get("content-type", "").lower():
            if not answer.body or not answer.framed:
                raise MaybeSent("truncated")
            if _is_json(answer.headers):
                raise _no_sound(answer.body)
            self.is_whole = True
            return answer.body
        self._tells = True
        events = Events(most=_EVENT_MAX)
        sound = b"".join([self._taken(event) for event in events.feed(answer.body)])
        if last := events.end():
            sound += self._taken(last)
        if not self._ended:
            raise MaybeSent("truncated")
        self.is_whole = True
        return sound

    def usage(self) -> Usage:
        """Return what it has taken; without a word of the vendor's, the characters spoken."""
        if self._usage:
            return Usage(
                input_tokens=count(self._usage.get("input_tokens")),
                output_tokens=count(self._usage.get("output_tokens")),
                said=(dict(self._usage),),
            )
        if self._tells:
            return Usage()
        return Usage(input_tokens=0, output_tokens=0, said=({"characters": len(self._text)},))

    def _taken(self, event: Event) -> bytes:
        payload = payload_of(RawAnswer(200, {}, event.data)) or {}
        kind = payload.get("type")
        if kind == "speech.audio.delta":
            try:
                return base64.b64decode(str(payload.get("audio") or ""), validate=True)
            except (binascii.Error, ValueError):
                raise MaybeSent("truncated") from None
        if kind == "speech.audio.done":
            self._ended = True
            self._usage = mapping(payload.get("usage"))
        elif kind == "error" or "error" in payload:
            raise error_of_inside(mapping(payload.get("error")) or payload)
        return b""
