"""Whoever watches a batch is told how far it is: by a bar, or by a line now and then."""

from decimal import Decimal
from typing import Any

import pytest

from turnmill.domain.batches import BatchState
from turnmill.domain.states import TurnState
from turnmill.store.batch_records import BatchCounts
from turnmill.verbs.batch_progress import drawn
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
