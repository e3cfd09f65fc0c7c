"""What a terminal shows while a command waits: on stderr, and nothing where nobody looks."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, TypeAlias

from turnmill.domain.errors import TurnmillError
from turnmill.show.terminal import STREAMS_STAY, console, on_one_line, say

#: A command that is done by then draws nothing.
_DRAWS_AFTER_S = 2.0
#: What is waited for is asked for at the latest after so long again.
_ASKS_AFTER_S = 30.0
_ENDS_WITHIN_S = 2.0

#: Tells what stands in the way; None where nothing does.
Why: TypeAlias = Callable[[], "str | None"]


@contextmanager
def waiting(what: str, why: Why = lambda: None) -> Iterator[None]:
    """Show that `what` is waited for: a spinner on a terminal, otherwise one line.

    Beside it, once, what stands in the way: see `explaining`.
    """
    if not sys.stderr.isatty():
        say(f"{on_one_line(what)} …")
        with explaining(why):
            yield
        return
    with spinner(f"{what}, Ctrl-C to leave") as live, explaining(why, tell=_above(live)):
        yield


@contextmanager
def explaining(why: Why, *, tell: Callable[[str], None] = say) -> Iterator[None]:
    """Say once what is waited for, as soon as `why` can tell; None is asked again.

    Who has what he waits for within two seconds is told nothing.
    """
    over = threading.Event()
    asking = threading.Thread(target=_explain, args=(why, tell, over), daemon=True)
    asking.start()
    try:
        yield
    finally:
        over.set()
        asking.join(timeout=_ENDS_WITHIN_S)


def _explain(why: Why, tell: Callable[[str], None], over: threading.Event) -> None:
    pause = _DRAWS_AFTER_S
    while not over.wait(pause):
        with suppress(TurnmillError):
            if (found := why()) is not None:
                tell(on_one_line(found))
                return
        pause = min(2 * pause, _ASKS_AFTER_S)


def _above(live: Any) -> Callable[[str], None]:
    """Return what writes above that which turns on a terminal."""
    from rich.text import Text

    return lambda line: live.console.print(Text(line))


def working(what: str) -> AbstractContextManager[object]:
    """Show on a terminal that something is being done which cannot say how far it is."""
    return spinner(what) if sys.stderr.isatty() else nullcontext()


def spinner(what: str, *, style: str = "") -> AbstractContextManager[Any]:
    """Return what turns on a terminal, with `what` beside it, as long as it is entered."""
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

    turning = Spinner("dots", Text(on_one_line(what), style), style="status.spinner")
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
