"""How long sounds take, in the forms that people send."""

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
