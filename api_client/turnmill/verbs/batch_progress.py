"""How far a batch is, drawn on stderr: a bar in a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from turnmill.domain.batches import BatchState
from turnmill.store.batch_records import BatchCounts
from turnmill.verbs.batch_words import said_of

#: Where nobody can draw, a line comes so often.
_LINE_EVERY = 10.0


class _Rate(ProgressColumn):
    """Turns that become final in a second."""

    def render(self, task: Task) -> Text:
        """Return the rate of the last half minute."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f}/s", style="progress.data.speed")


@contextmanager
def drawn(*, what: str = "answered") -> Iterator[Callable[[BatchCounts], None]]:
    """Yield a function that shows counts: how far, how fast, for how much, and what failed."""
    console = Console(stderr=True)
    if not (console.is_terminal or console.is_jupyter):
        yield _Lines(console, what)
        return
    with _progress(console) as progress:
        bar = progress.add_task(what, total=None, said="")

        def draw(counts: BatchCounts) -> None:
            progress.update(
                bar,
                completed=counts.finished,
                total=_total(counts),
                said="  ".join(said_of(counts)),
            )

        yield draw


@contextmanager
def drawn_lines(*, what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that draws (done, total)."""
    with _progress(Console(stderr=True)) as progress:
        bar = progress.add_task(what, total=None, said="", visible=False)
        yield lambda done, total: progress.update(bar, completed=done, total=total, visible=True)


class _Lines:
    """A line of text every ten seconds, and one as soon as the batch is done."""

    def __init__(self, console: Console, what: str) -> None:
        self._console = console
        self._what = what
        self._began = time.monotonic()
        self._finished = 0  #: when it began
        self._next = self._began
        self._is_first = True

    def __call__(self, counts: BatchCounts) -> None:
        """Say how far it is, if it is time to."""
        now = time.monotonic()
        if self._is_first:
            self._is_first, self._finished = False, counts.finished
        elif now < self._next and not (counts.is_done or counts.state is BatchState.PAUSED):
            return
        self._next = now + _LINE_EVERY
        line = self._line(counts, now - self._began)
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _line(self, counts: BatchCounts, passed: float) -> str:
        total = _total(counts)
        share = 100 * counts.finished // total
        said = [f"{self._what} {counts.finished:,}/{total:,} ({share} %)"]
        rate = (counts.finished - self._finished) / passed if passed > 0 else 0.0
        if rate > 0:
            said.append(f"{rate:,.1f}/s")
            if not counts.is_done:
                left = timedelta(seconds=round((total - counts.finished) / rate))
                said.append(f"{left} left")
        return "  ".join([*said, *said_of(counts)])


def _total(counts: BatchCounts) -> int:
    return counts.total or max(counts.accepted, 1)


def _whole() -> Column:
    """Return a column that is never cut: a number without its end says something else."""
    return Column(no_wrap=True)


class _Bar(Progress):
    """A bar, and below it what does not fit beside it in 80 columns."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the bar, and what is said of it."""
        yield from super().get_renderables()
        if said := "  ".join(filter(None, (task.fields["said"] for task in self.tasks))):
            yield Text(said)

    def stop(self) -> None:
        """Draw no further; where nobody draws, and nothing was drawn, no blank line is left."""
        self.live.stop()
        is_drawn = self.console.is_interactive or self.console.is_jupyter
        if not is_drawn and any(task.visible for task in self.tasks):
            self.console.print()


def _progress(console: Console) -> Progress:
    return _Bar(
        TextColumn("{task.description}", table_column=_whole()),
        BarColumn(),
        MofNCompleteColumn(table_column=_whole()),
        _Rate(table_column=_whole()),
        TimeRemainingColumn(table_column=_whole()),
        console=console,
        # The streams of the process are not ours to exchange for proxies of rich's.
        redirect_stdout=False,
        redirect_stderr=False,
    )
