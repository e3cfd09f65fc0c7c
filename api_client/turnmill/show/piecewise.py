"""Text that comes in pieces, shown as it would be in one: nothing is told by where it was cut."""

from __future__ import annotations

from turnmill.show.terminal import put

#: These mean something together with what stands beside them.
_JOINS = ("\u200c", "\u200d", "\r")


class Piecewise:
    """Writes pieces to stdout, where a terminal is guarded: each character with its neighbours."""

    def __init__(self) -> None:
        self._held = ""
        self._before = ""  # the last character that was written
        self.has_written = False

    def write(self, piece: str) -> None:
        """Show what can be judged of it by now."""
        text = self._held + piece
        cut = max(len(text) - 1, 0)
        while cut and (text[cut] in _JOINS or text[cut - 1] in _JOINS):
            cut -= 1
        self._held = text[cut:]
        self._show(text[:cut])

    def end(self) -> None:
        """Show what is left, and end the line."""
        text, self._held = self._held, ""
        self._show(text)
        if self.has_written and self._before != "\n":
            put("\n")
        self._before, self.has_written = "", False

    def _show(self, text: str) -> None:
        if not text:
            return
        self.has_written = True
        self._before = text[-1]
        put(text)
