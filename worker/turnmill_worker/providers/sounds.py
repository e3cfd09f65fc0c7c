"""Sounds: what they are and how long they take, by a kept library; WAV by Python's own."""

import asyncio
import os
import wave
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from functools import partial
from io import BytesIO
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Self

from turnmill.domain.content import Audio
from turnmill.domain.errors import Rejected
from turnmill_worker.providers.files import Files
from turnmill_worker.providers.voice_port import Sound

#: Of a sound that is looked into; a larger one is as long as anybody says.
MEASURED_MAX = 32 * 2**20
_IN_MEMORY = 256 * 1024
_LONGEST = timedelta(days=1)
_MS = timedelta(milliseconds=1)
_WAV, _MP3 = "audio/wav", "audio/mpeg"

#: Kinds that the library reads: one that it does not find in a file is not there.
_READ = frozenset({"audio/flac", "audio/mp4", "audio/mpeg", "audio/ogg", _WAV})

#: Names that vendors, and browsers, have for the same.
_SAME = {
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/mp3": "audio/mpeg",
    "audio/x-mp3": "audio/mpeg",
    "audio/m4a": "audio/mp4",
    "audio/x-m4a": "audio/mp4",
    "video/mp4": "audio/mp4",
    "video/webm": "audio/webm",
    "audio/x-flac": "audio/flac",
    "audio/opus": "audio/ogg",
    "application/ogg": "audio/ogg",
}


def plain_type(media_type: str) -> str:
    """Return a type by the one name that it has here, without what is said beside it."""
    bare = media_type.partition(";")[0].strip().lower()
    return _SAME.get(bare, bare)


async def sound_of(files: Files, part: Audio) -> Sound:
    """Return an attachment as a sound. Raises Rejected where it is kept no longer."""
    info = await files.info(part)
    if info is None:
        raise Rejected("attachment_gone", hint="send it again; nothing was sent to anybody")
    return Sound(
        media_type=plain_type(info.media_type),
        size=info.size,
        duration=part.duration or info.duration,
        chunks=partial(files.chunks, part),
    )


async def timed(sound: Sound) -> Sound:
    """Return it with its length, where that can be told. Raises Rejected for a broken one."""
    if sound.duration is not None or sound.size > MEASURED_MAX:
        return sound
    return replace(sound, duration=await duration_of(sound.chunks(), sound.media_type))


async def duration_of(chunks: AsyncIterator[bytes], media_type: str) -> timedelta | None:
    """Return how long a sound takes; None where nobody can tell. Raises Rejected for a broken one.

    Without the extra `voice`, of WAV alone.
    """
    with SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
        async for chunk in chunks:
            await asyncio.to_thread(file.write, chunk)
        return await asyncio.to_thread(measured, file, media_type)


class Copy:
    """A copy of what is kept of a sound, to tell how long it takes."""

    def __init__(self) -> None:
        self._file: IO[bytes] = BytesIO()
        self._closing = ExitStack()
        self._size = 0

    def __enter__(self) -> Self:
        self._file = self._closing.enter_context(SpooledTemporaryFile(max_size=_IN_MEMORY))
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    async def of(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the same bytes; they are copied up to a bound."""
        async for chunk in chunks:
            self._size += len(chunk)
            if self._size <= MEASURED_MAX:
                await asyncio.to_thread(self._file.write, chunk)
            yield chunk

    async def timed(self, audio: Audio, media_type: str) -> Audio:
        """Return the part with its length, where that can be told."""
        if self._size > MEASURED_MAX:
            return audio
        try:
            found = await asyncio.to_thread(measured, self._file, plain_type(media_type))
        except Rejected:
            return audio  # it was paid for, and whoever plays it may know better
        return audio if found is None else replace(audio, duration_ms=round(found / _MS))


def measured(file: IO[bytes], media_type: str) -> timedelta | None:
    """Return the length of the sound in an open file; see `duration_of`. It blocks."""
    file.seek(0)
    seconds = _of_wav(file) if media_type == _WAV else None
    return _span(_read(file, media_type) if seconds is None else seconds)


def _of_wav(file: IO[bytes]) -> float | None:
    """Return its seconds; None where it holds what Python does not decode."""
    try:
        with wave.open(file, "rb") as opened:
            width = opened.getnchannels() * opened.getsampwidth()
            # What is written while it comes says no length, or one that is never reached.
            there = file.seek(0, os.SEEK_END) // max(width, 1)
            return min(opened.getnframes(), there) / max(opened.getframerate(), 1)
    except wave.Error:
        return None
    except (EOFError, ValueError, OverflowError):
        raise _broken(_WAV) from None


def _read(file: IO[bytes], media_type: str) -> float | None:
    """Return its seconds as the library reads them; None where it knows nothing of the kind."""
    try:
        from mutagen import File  # noqa: PLC0415  an extra, and few turns are spoken
        from mutagen.mp3 import MPEGInfo  # noqa: PLC0415
        from mutagen.wave import WaveStreamInfo  # noqa: PLC0415
    except ImportError:
        return None
    file.seek(0)
    # Tags of these two may be packed, to a thousandth of what they would fill: none is read.
    alone = {_MP3: MPEGInfo, _WAV: WaveStreamInfo}.get(media_type)
    try:
        info: Any = alone(file) if alone else getattr(File(file), "info", None)
    except Exception:  # noqa: BLE001
        # The edge to a library that reads what anybody has sent.
        raise _broken(media_type) from None
    if info is None:
        if media_type in _READ:
            raise _broken(media_type)
        return None
    seconds = getattr(info, "length", None)
    return float(seconds) if isinstance(seconds, int | float) else None


def _span(seconds: object) -> timedelta | None:
    """Return a length, where it makes sense: a header may say anything."""
    if not isinstance(seconds, int | float) or not 0 < seconds <= _LONGEST.total_seconds():
        return None
    return timedelta(milliseconds=round(seconds * 1000))


def _broken(media_type: str) -> Rejected:
    return Rejected(
        "audio_unreadable",
        detail=f"it is called {media_type}, and cannot be read as that",
        hint="play it, or save it anew; nothing was sent",
    )
