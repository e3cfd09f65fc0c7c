"""How long sounds take, in the forms that people send."""

import time
import zlib
from io import BytesIO

import pytest

from tests.sounds import mp3, slow_mp3, wav
from turnmill.domain.errors import Rejected
from turnmill_worker.providers.sounds import measured


@pytest.mark.parametrize(
    ("sound", "media_type"),
    [(wav(2.0), "audio/wav"), (mp3(2.0), "audio/mpeg"), (slow_mp3(2.0), "audio/mpeg")],
    ids=["wav", "mp3", "slow mp3"],
)
def test_a_sound_is_as_long_as_it_is_whatever_its_rate(sound: bytes, media_type: str) -> None:
    found = measured(BytesIO(sound), media_type)
    assert found is not None
    assert found.total_seconds() == pytest.approx(2.0, abs=0.05)


def test_what_is_called_an_mp3_and_has_no_frame_is_refused() -> None:
    with pytest.raises(Rejected, match="audio_unreadable"):
        measured(BytesIO(b"\xff\xe3" + bytes(4000)), "audio/mpeg")


def test_the_tags_of_a_sound_are_not_unpacked() -> None:
    packed = bytes((0, 0x60, 0, 0)) + zlib.compress(bytes(3 * 2**19), 9)
    length = bytes(len(packed) >> shift & 0x7F for shift in (21, 14, 7, 0))
    frame = b"TXXX" + length + b"\0\x09" + packed
    size = bytes(len(frame) >> shift & 0x7F for shift in (21, 14, 7, 0))
    sound = (b"\xff\xfb\x90\0" + bytes(413)) * 50
    began = time.process_time()
    found = measured(BytesIO(b"ID3\4\0\0" + size + frame + sound), "audio/mpeg")
    assert found is not None and 1 < found.total_seconds() < 2
    assert time.process_time() - began < 2
