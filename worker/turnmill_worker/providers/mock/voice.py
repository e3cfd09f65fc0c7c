"""A transcriber and a speaker without a vendor: the same words for the same sound, and faults.

The script under `mock` says `transcript`, the words that are heard; `faults`, `at_step`, `latency`
and `retry_after` mean what they do for the model. What is spoken is a WAV of a quiet tone, which
takes 60 ms for each character.
"""

import array
import hashlib
import io
import math
import wave
from collections.abc import AsyncIterator
from functools import cache
from typing import Self

from turnmill_worker.providers.mock.provider import MockProvider
from turnmill_worker.providers.mock.script import of_voice, transcript_in
from turnmill_worker.providers.parameters import setting_refused
from turnmill_worker.providers.port import Done, Request, Running, Usage
from turnmill_worker.providers.voice_port import Keep, Sound, Speech, Terms, Transcript

WAV = "audio/wav"
_RATE = 8_000  # frames a second, of one byte
_PER_CHARACTER = _RATE * 60 // 1000
_CHUNK = 16 * 1024


class MockTranscriber:
    """Hears what the script says, or how much it was."""

    name = "mock"
    model = "mock-transcribe"

    def __init__(self, mock: MockProvider) -> None:
        self._mock = mock

    @classmethod
    def from_env(cls) -> Self:
        """Read what the mock provider reads."""
        return cls(MockProvider.from_env())

    def terms(self, request: Request) -> Terms:
        return Terms()

    async def transcribe(self, request: Request, sound: Sound) -> Transcript:
        """Hear all of it; work in the background is not asked for."""
        size, digest = 0, hashlib.sha256()
        async for chunk in sound.chunks():
            size += len(chunk)
            digest.update(chunk)
        words = transcript_in(request)
        if words is None:
            words = f"({size} bytes of {sound.media_type}, {digest.hexdigest()[:8]})"
        done = await _answered(self._mock, request, words)
        seconds = 0.0 if sound.duration is None else sound.duration.total_seconds()
        return Transcript(
            text=done.text, usage=_usage(done, {"seconds": seconds}), model=self.model
        )

    async def aclose(self) -> None:
        await self._mock.aclose()


class MockSpeaker:
    """Speaks in one tone."""

    name = "mock"
    model = "mock-speak"

    def __init__(self, mock: MockProvider) -> None:
        self._mock = mock

    @classmethod
    def from_env(cls) -> Self:
        """Read what the mock provider reads."""
        return cls(MockProvider.from_env())

    def terms(self, request: Request) -> Terms:
        return Terms(characters_max=100_000)

    async def speak(self, request: Request, text: str, keep: Keep) -> Speech:
        done = await _answered(self._mock, request, text)
        audio = await keep(_spoken(len(text)), WAV)
        return Speech(audio=audio, usage=_usage(done, {"characters": len(text)}), model=self.model)

    async def aclose(self) -> None:
        await self._mock.aclose()


async def _answered(mock: MockProvider, request: Request, words: str) -> Done:
    done = await mock.send(of_voice(request, words))
    if isinstance(done, Running):
        raise setting_refused("mock", "nobody hears or speaks in the background")
    return done


def _usage(done: Done, said: dict[str, int | float]) -> Usage:
    return Usage(
        input_tokens=done.usage.input_tokens,
        output_tokens=done.usage.output_tokens,
        said=(said,),
    )


async def _spoken(characters: int) -> AsyncIterator[bytes]:
    frames = max(characters, 1) * _PER_CHARACTER
    head = io.BytesIO()
    with wave.open(head, "wb") as opened:
        opened.setparams((1, 1, _RATE, frames, "NONE", ""))
        opened.writeframes(_tone() * (frames // _CHUNK) + _tone()[: frames % _CHUNK])
    whole = head.getvalue()
    for start in range(0, len(whole), _CHUNK):
        yield whole[start : start + _CHUNK]


@cache
def _tone() -> bytes:
    """Return two seconds of it, which begin and end in the middle."""
    waves = (128 + round(40 * math.sin(math.pi * n / 8)) for n in range(_CHUNK))
    return array.array("B", waves).tobytes()
