"""What a terminal shows while a command waits: on stderr, and nothing where nobody looks."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from turnmill.show.terminal import STREAMS_STAY, console, on_one_line, say

#: A command that is done by then draws nothing.
_DRAWS_AFTER_S = 2.0


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show that `what` is waited for: a spinner on a terminal, otherwise one line."""
    if not sys.stderr.isatty():
        say(f"{on_one_line(what)} …")
        yield
        return
    with spinner(f"{what}, Ctrl-C to leave"):
        yield


def working(what: str) -> AbstractContextManager[object]:
    """Show on a terminal that something is being done which cannot say how far it is."""
    return spinner(what) if sys.stderr.isatty() else nullcontext()


def spinner(what: str) -> AbstractContextManager[object]:
    """Return what turns on a terminal, with `what` beside it, as long as it is entered."""
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

    turning = Spinner("dots", Text(on_one_line(what)), style="status.spinner")
    to = console(stderr=True)
    return Live(turning, console=to, transient=True, refresh_per_second=12.5, **STREAMS_STAY)


@contextmanager
def counting(what: str, *, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that draws how many of `total` are done, once that takes two seconds.

    Where stdout is a terminal, the line that each of them is told by shows it.
    """
    if not sys.stderr.isatty() or sys.stdout.isatty():
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    to = console(stderr=True)
    progress = Progress(*columns, console=to, transient=True, **STREAMS_STAY)
    bar = progress.add_task(on_one_line(what), total=total)
    begins = time.monotonic() + _DRAWS_AFTER_S

    def draw(done: int) -> None:
        if time.monotonic() > begins:
            progress.start()
        progress.update(bar, completed=done)

    try:
        yield draw
    finally:
        progress.stop()
