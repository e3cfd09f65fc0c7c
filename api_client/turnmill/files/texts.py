"""Whether a file is a text, all of it, while it passes."""

import codecs
import re

from turnmill.domain.errors import AttachmentRefused

_CONTROLS = re.compile("[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")


class TextCheck:
    """Is given the bytes of a text, piece by piece; raises AttachmentRefused when it is none."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")()

    def take(self, piece: bytes) -> None:
        """Look at the next piece."""
        self._look(piece, final=False)

    def end(self) -> None:
        """Look whether it ends within a character."""
        self._look(b"", final=True)

    def _look(self, piece: bytes, *, final: bool) -> None:
        try:
            words = self._decode.decode(piece, final)
        except UnicodeDecodeError:
            raise AttachmentRefused(
                "the file is of a kind that is not known, and no text in UTF-8",
                hint="convert a text, as with iconv",
            ) from None
        if _CONTROLS.search(words):
            raise AttachmentRefused("the file is of a kind that is not known, and no text")
