"""The line of a chat that says what a reply waits for, renewed until the reply comes."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from turnmill.cli.waiting import spinner
from turnmill.domain.errors import TurnmillError
from turnmill.show.terminal import on_one_line, say
from turnmill.show.why_view import in_a_line, obstacles
from turnmill.store.nouns.why import Cause

if TYPE_CHECKING:
    from turnmill.store.nouns.why import Why

#: A reply that comes by then is not explained.
_QUIET_S = 2.0
#: What has begun to come may pause for so long before anybody asks why.
_PAUSE_S = 5.0
_RENEWED_AFTER_S = 1.0
#: A slow answer is asked for again after so many times what it took.
_RESTS = 10
_ENDS_WITHIN_S = 2.0


class HeldUp:
    """Says on stderr what a reply waits for, as long as nothing of it comes.

    On a terminal that is one dim line, which goes when the reply comes; elsewhere one plain line,
    said once. Who is answered within two seconds costs no question, and nor does text that comes.
    """

    def __init__(self, why: Callable[[], Why], *, asked: str) -> None:
        """`asked` is shown on a terminal from the beginning, in place of a reason."""
        self._why = why
        self._asked = asked
        self._draws = sys.stderr.isatty()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._told = False
        self._live: Any = None
        self._is_amid_text = False
        self._heard_at = time.monotonic()
        self._asking = threading.Thread(target=self._ask, daemon=True)
        self.break_line: Callable[[], None] = lambda: None  #: called before it stands amid text

    def __enter__(self) -> Self:
        if self._draws:
            self._show(self._asked)
        self._asking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with self._lock:
            self._hide()
        self._asking.join(timeout=_ENDS_WITHIN_S)

    def text_comes(self) -> None:
        """Make room: a piece of text is about to be written, and more may follow it."""
        self._heard(is_amid_text=True)

    def line_ends(self) -> None:
        """Note that a line was ended, and that what comes next is waited for."""
        self._heard(is_amid_text=False)

    def _heard(self, *, is_amid_text: bool) -> None:
        with self._lock:
            self._hide()
            self._is_amid_text = is_amid_text
            self._heard_at = time.monotonic()

    def _ask(self) -> None:
        pause = _QUIET_S
        while not self._over.wait(pause):
            heard_at, pause = self._heard_at, _RENEWED_AFTER_S
            quiet = _PAUSE_S if self._is_amid_text else _QUIET_S
            if time.monotonic() < heard_at + quiet:
                continue
            begun = time.monotonic()
            with suppress(TurnmillError):
                self._say(self._why(), heard_at=heard_at)
            pause = max(pause, _RESTS * (time.monotonic() - begun))

    def _say(self, why: Why, *, heard_at: float) -> None:
        """Show the reason, unless something was heard since it was asked for."""
        with self._lock:
            if self._over.is_set() or self._heard_at != heard_at:
                return
            if self._draws:
                self._draw(why)
            elif not self._told and obstacles(why):
                say(on_one_line(_worded(why)))
                self._told = True

    def _draw(self, why: Why) -> None:
        if obstacles(why):
            if self._live is None and self._is_amid_text:
                self.break_line()
            self._show(_worded(why))
        elif self._is_amid_text:
            self._hide()
        elif why.reasons[0].cause is Cause.RUNNING:
            self._show(in_a_line(why))
        else:
            self._show(self._asked)

    def _show(self, line: str) -> None:
        from rich.text import Text

        if self._live is None:
            self._live = spinner(line, style="dim")
            self._live.start()
        else:
            self._live.get_renderable().update(text=Text(on_one_line(line), style="dim"))

    def _hide(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _worded(why: Why) -> str:
    return f"waits: {in_a_line(why)}"
