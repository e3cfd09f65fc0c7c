"""Sounds for tests: silence, in the forms that people send."""

import io
import wave

_RATE = 8_000
#: MPEG 1, layer III, 128 kbit/s, 44.1 kHz, no checksum: an empty frame of 417 bytes.
_FRAME = b"\xff\xfb\x90\x64" + bytes(413)
_FRAME_SECONDS = 1152 / 44_100


def wav(seconds: float, *, rate: int = _RATE) -> bytes:
    """Return a WAV of so long."""
    written = io.BytesIO()
    with wave.open(written, "wb") as opened:
        opened.setparams((1, 2, rate, 0, "NONE", ""))
        opened.writeframes(bytes(2 * round(seconds * rate)))
    return written.getvalue()


def mp3(seconds: float) -> bytes:
    """Return an MP3 of about so long: whole frames, and one at the least."""
    return _FRAME * max(round(seconds / _FRAME_SECONDS), 1)


def slow_mp3(seconds: float) -> bytes:
    """Return an MP3 as dictating machines write it: MPEG 2.5, 8 kbit/s, 8 kHz."""
    return (b"\xff\xe3\x18\xc4" + bytes(68)) * max(round(seconds / 0.072), 1)
