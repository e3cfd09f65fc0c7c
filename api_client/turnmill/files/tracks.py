"""Whether an MP4 is sound alone, while it passes: its index may stand at its very end."""

import re

from turnmill.domain.errors import AttachmentRefused

#: The handler of a track of pictures, and of one of sound.
_MOVES = re.compile(rb"hdlr.{8}(?:vide|pict|auxv)", re.DOTALL)
_SOUNDS = re.compile(rb"hdlr.{8}soun", re.DOTALL)
#: Of the piece before: a handler may stand across both.
_OVERLAP = 15


def shows_pictures(piece: bytes) -> bool:
    """Tell whether a track of pictures is named there."""
    return _MOVES.search(piece) is not None


def sounds(piece: bytes) -> bool:
    """Tell whether a track of sound is named there."""
    return _SOUNDS.search(piece) is not None


class TrackCheck:
    """Is given the bytes of an MP4, piece by piece; raises AttachmentRefused for one of pictures.

    Nothing of it is kept but the last few bytes, however long its index is.
    """

    def __init__(self, *, says_sound: bool) -> None:
        """`says_sound`: it calls itself sound alone, and need not name a track."""
        self._sounds = says_sound
        self._before = b""

    def take(self, piece: bytes) -> None:
        """Look at the next piece."""
        both = self._before + piece
        if shows_pictures(both):
            raise AttachmentRefused("the file is a video, or a picture as cameras write them")
        self._sounds = self._sounds or sounds(both)
        self._before = both[-_OVERLAP:]

    def end(self) -> None:
        """Look whether there was sound."""
        if not self._sounds:
            raise AttachmentRefused(
                "the file is an MP4 without a track of sound", hint="it may be cut off: play it"
            )
