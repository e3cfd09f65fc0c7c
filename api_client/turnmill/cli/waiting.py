"""What a terminal shows while a command waits: on stderr, and nothing where nobody looks."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from turnmill.show.terminal import console, on_one_line, say

#: A command that is done by then draws nothing.
_DRAWS_AFTER_S = 2.0


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show that `what` is waited for: a spinner on a terminal, otherwise one line."""
    what = on_one_line(what)
    if not sys.stderr.isatty():
        say(f"{what} …")
        yield
        return
    with console(stderr=True).status(f"{what}, Ctrl-C to leave"):
        yield


def working(what: str) -> AbstractContextManager[object]:
    """Show on a terminal that something is being done which cannot say how far it is."""
    if not sys.stderr.isatty():
        return nullcontext()
    return console(stderr=True).status(on_one_line(what))


@contextmanager
def counting(what: str, *, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that draws how many of `total` are done, once that takes two seconds."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    progress = Progress(*columns, console=console(stderr=True), transient=True)
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
