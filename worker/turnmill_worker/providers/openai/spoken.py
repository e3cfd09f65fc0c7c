"""What OpenAI speaks: bytes as they are, or events that hold them and end with what was counted."""

import base64
import binascii
from collections.abc import AsyncIterator, Mapping
from typing import Any

from turnmill.domain.errors import MaybeSent
from turnmill_worker.providers.answers import payload_of
from turnmill_worker.providers.failures import error_of_inside
from turnmill_worker.providers.http import Incoming, RawAnswer
from turnmill_worker.providers.port import Usage
from turnmill_worker.providers.sse import Event, Events
from turnmill_worker.providers.untrusted import count, mapping

_EVENT_MAX = 2**22


class Spoken:
    """One answer of `/v1/audio/speech`."""

    def __init__(self) -> None:
        self._usage: Mapping[str, Any] | None = None
        self._tells = False  #: it came as events
        self._ended = False

    async def pieces(self, incoming: Incoming) -> AsyncIterator[bytes]:
        """Yield the sound. Raises MaybeSent where its last event is missing."""
        if not incoming.says_stream:
            while piece := await incoming.next():
                yield piece
            return
        self._tells = True
        events = Events(most=_EVENT_MAX)
        while wire := await incoming.next():
            for event in events.feed(wire):
                if sound := self._taken(event, incoming):
                    yield sound
        if (last := events.end()) and (sound := self._taken(last, incoming)):
            yield sound
        if not self._ended:
            raise MaybeSent("truncated")

    def usage(self, text: str) -> Usage:
        """Return what it has taken; without a word of the vendor's, the characters spoken."""
        if self._usage:
            return Usage(
                input_tokens=count(self._usage.get("input_tokens")),
                output_tokens=count(self._usage.get("output_tokens")),
                said=(dict(self._usage),),
            )
        if self._tells:
            return Usage()
        return Usage(input_tokens=0, output_tokens=0, said=({"characters": len(text)},))

    def _taken(self, event: Event, incoming: Incoming) -> bytes:
        payload = _object(event, incoming)
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


def _object(event: Event, incoming: Incoming) -> Mapping[str, Any]:
    answer = RawAnswer(incoming.status, incoming.headers, event.data)
    return payload_of(answer) or {}
