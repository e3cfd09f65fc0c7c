"""Whoever watches a batch is told how far it is: by a bar, or by a line now and then."""

import io
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from turnmill.domain.batches import BatchState
from turnmill.domain.states import TurnState
from turnmill.store.batch_records import BatchCounts
from turnmill.verbs.batch_progress import _progress, drawn
from turnmill.verbs.batch_words import said_of


def counts(done: int, *, total: int = 100, **more: Any) -> BatchCounts:
    states = {TurnState.SUCCEEDED: done, TurnState.QUEUED: total - done}
    return BatchCounts(total=total, closed=True, states=states, **more)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("turnmill.verbs.batch_progress.time.monotonic", lambda: now[0])
    return now


def test_where_nobody_draws_a_line_comes_every_ten_seconds_and_at_the_end(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with drawn() as draw:
        for second in range(25):
            clock[0] = float(second)
            draw(counts(4 * second))
        draw(counts(100))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "answered 0/100 (0 %)",
        "answered 40/100 (40 %)  4.0/s  0:00:15 left",
        "answered 80/100 (80 %)  4.0/s  0:00:05 left",
        "answered 100/100 (100 %)  4.2/s",
    ]


def test_a_line_says_what_it_has_cost_what_failed_and_where_its_shards_are() -> None:
    found = counts(
        7,
        cost_usd=Decimal("1.25"),
        unpriced=2,
        reused=3,
        codes={"overloaded": 5, "rejected": 2, "a": 1, "b": 1, "c": 1},
        shards={"in_progress": 2, "ended": 1},
    )
    assert said_of(found) == [
        "$1.2500 and 2 of unknown cost",
        "3 reused",
        "5 overloaded, 2 rejected, 1 a, 2 more codes",
        "shards: 1 ended, 2 in_progress",
    ]


@pytest.mark.parametrize(("because", "said"), [(None, "by hand"), ("rejected", "rejected")])
def test_a_batch_that_is_paused_says_why(because: str | None, said: str) -> None:
    found = counts(0, state=BatchState.PAUSED, paused_because=because)
    assert said_of(found) == [f"paused: {said}"]


def test_words_in_brackets_are_no_markup(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with drawn() as draw:
        draw(counts(100, codes={"[red]": 1}))
    assert "1 [red]" in capsys.readouterr().err


def test_in_eighty_columns_no_number_is_cut_and_what_is_said_beside_stands_below() -> None:
    out = io.StringIO()
    far = counts(
        999_000,
        total=1_000_000,
        cost_usd=Decimal("1234.5"),
        codes={"overloaded": 5, "rejected": 2},
        shards={"in_progress": 2},
    )
    with _progress(Console(file=out, width=80, force_terminal=True)) as progress:
        bar = progress.add_task("answered", total=None, said="")
        progress.update(bar, completed=1, total=far.total, said="")
        progress.update(bar, completed=far.finished, said="  ".join(said_of(far)))
        progress.refresh()
    last = Text.from_ansi(out.getvalue()).plain.splitlines()[-2:]
    assert "999000/1000000" in last[0]
    assert "…" not in "".join(last)
    assert last[1].strip() == "$1,234.5000  5 overloaded, 2 rejected  shards: 2 in_progress"


def test_who_watches_a_pipe_is_told_at_once_that_a_batch_is_paused(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with drawn() as draw:
        draw(counts(1))
        clock[0] = 1.0
        draw(counts(2, state=BatchState.PAUSED, paused_because="rejected"))
    assert capsys.readouterr().err.splitlines()[-1].endswith("paused: rejected")
