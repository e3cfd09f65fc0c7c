"""How far a batch is, drawn on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from turnmill.store.nouns.batches import BatchCounts


class _Rate(ProgressColumn):
    """Turns that become final in a second."""

    def render(self, task: Task) -> Text:
        """Return the rate of the last half minute."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f}/s", style="progress.data.speed")


@contextmanager
def drawn(*, what: str = "answered") -> Iterator[Callable[[BatchCounts], None]]:
    """Yield a function that draws counts as a bar with rate and remaining time."""
    with _progress() as progress:
        bar = progress.add_task(what, total=None, failed="")

        def draw(counts: BatchCounts) -> None:
            failed = counts.finished - counts.succeeded
            progress.update(
                bar,
                completed=counts.finished,
                total=counts.total or max(counts.accepted, 1),
                failed=f"{failed} without a reply" if failed else "",
            )

        yield draw


@contextmanager
def drawn_lines(*, what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that draws (done, total)."""
    with _progress() as progress:
        bar = progress.add_task(what, total=None, failed="", visible=False)
        yield lambda done, total: progress.update(bar, completed=done, total=total, visible=True)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("[red]{task.fields[failed]}"),
        console=Console(stderr=True),
        # The streams of the process are not ours to exchange for proxies of rich's.
        redirect_stdout=False,
        redirect_stderr=False,
    )
