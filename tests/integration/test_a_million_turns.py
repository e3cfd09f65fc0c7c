"""Figures of a month: folded in soon, read at once, and exact, however many turns there are."""

import logging
import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from tests.conftest import fresh_database
from tests.generated_month import DAYS, FIRST, Month, turns_of, write_month, written
from tests.processor_time import ProcessorTime
from turnmill.domain.analytics.windows import Window, day_of
from turnmill.show.report.page import report_page
from turnmill.store.analytics import reporting
from turnmill.store.analytics.figures import Dimension, Latency, Totals, percentiles, totals
from turnmill.store.analytics.folding import PAGE, fold, recomputed
from turnmill.store.database import Database
from turnmill.store.nouns.event_log import give_places
from turnmill.store.upkeep.invariants import _broken
from turnmill.store.upkeep.invariants_of_figures import OF_FIGURES
from turnmill_worker.stack.postgres import EmbeddedPostgres

log = logging.getLogger(__name__)

LAST = FIRST + timedelta(days=DAYS)
ALL = Window(FIRST, FIRST + timedelta(days=DAYS + 1))
QUANTILES = (0.5, 0.9, 0.95, 0.99)


class Took(NamedTuple):
    """How long something took by the clock, and for how long processors were busy with it."""

    seconds: float
    computed: float


@contextmanager
def timed(store: Database, into: list[Took]) -> Iterator[None]:
    """Time what is done here, by the clock and as far as this process and Postgres compute."""
    processors = ProcessorTime(store)
    before, began = processors.now(), time.perf_counter()
    yield
    seconds = time.perf_counter() - began
    into.append(Took(seconds, processors.now() - before))


def folded(store: Database, *, tag: str = "team") -> list[Took]:
    """Fold in what has ended, and return what each page of 10,000 took."""
    while store.run(give_places, limit=50_000):
        pass
    pages: list[Took] = []
    while True:
        with timed(store, pages):
            done = store.run(fold, tag=tag)
        if done != PAGE:
            return pages[:-1]


def said_of(what: str, times: list[Took]) -> None:
    """Log the median, and the best and the worst; and the same of what was computed."""
    load = Path("/proc/loadavg").read_text().split()[0]
    for of, some in (
        ("", [one.seconds for one in times]),
        (", computed", [*map(_computed, times)]),
    ):
        some.sort()
        log.info(
            "%s%s: median %.3f s, %.3f to %.3f s, of %d; load %s",
            *(what, of, some[len(some) // 2], some[0], some[-1], len(some), load),
        )


def _computed(one: Took) -> float:
    return one.computed


def _median(times: list[Took]) -> float:
    return sorted(one.seconds for one in times)[len(times) // 2]


@pytest.fixture
def month(request: pytest.FixtureRequest) -> Month:
    return Month(turns=request.param)


@pytest.fixture
def url(postgres_server: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    with fresh_database(postgres_server, migrated_template) as url:
        yield url


@pytest.fixture
def store(url: str) -> Iterator[Database]:
    database = Database(url)
    database.run(fold, tag="team")  # nothing is there: what comes is folded in with its events
    yield database
    database.close()


def check(store: Database, month: Month) -> None:
    """Compare figures of the month with those of the turns that it was made of."""
    whole = list(turns_of(month))
    with store.begin() as conn:
        (sums,) = totals(conn, ALL)
        by_day = totals(conn, ALL, by=[Dimension.DAY, Dimension.TAG], zone="Asia/Kolkata")
        for zone in ("Asia/Kathmandu", "Europe/Berlin"):  # where the 25th has 25 hours
            days = totals(conn, ALL, by=[Dimension.DAY], zone=zone)
            assert {_date(one, zone): one.turns for one in days} == Counter(
                one.finished.astimezone(ZoneInfo(zone)).date() for one in whole
            )
        quantiles = {one: percentiles(conn, ALL, of=one, quantiles=QUANTILES)[0] for one in Latency}
    assert sums.turns == len(whole) == sum(one.turns for one in by_day)
    assert sums.succeeded == sum(one.state == "succeeded" for one in whole)
    assert sums.attempts == sum(len(one.calls) for one in whole)
    assert sums.retries == sum(len(one.calls) - 1 for one in whole)
    assert sums.output_tokens == sum(call.tokens[1] for one in whole for call in one.calls)
    exact: dict[Latency, list[float]] = {
        Latency.QUEUED: [
            (one.calls[0].begun - one.created) / timedelta(milliseconds=1) for one in whole
        ],
        Latency.TOTAL: [(one.finished - one.created) / timedelta(milliseconds=1) for one in whole],
        Latency.PROVIDER: [
            call.took_ms for one in whole for call in one.calls if call.outcome == "succeeded"
        ],
        Latency.FIRST_TOKEN: [
            call.first_token_ms
            for one in whole
            for call in one.calls
            if call.outcome == "succeeded" and call.first_token_ms is not None
        ],
    }
    for latency, values in exact.items():
        values.sort()
        found = quantiles[latency]
        assert found.count == len(values)
        for share, value in found.quantiles_ms.items():
            assert value == pytest.approx(values[math.ceil(share * len(values)) - 1], rel=0.0101)


def _date(one: Totals, zone: str) -> date:
    at = one.by[Dimension.DAY]
    assert isinstance(at, datetime)
    return at.astimezone(ZoneInfo(zone)).date()


@pytest.mark.long
@pytest.mark.parametrize("month", [20_000], indirect=True)
def test_a_month_is_folded_in_exactly_and_its_percentiles_are_within_a_percent(
    store: Database, url: str, month: Month
) -> None:
    write_month(url, month)
    folded(store)
    check(store, month)
    with store.begin() as conn:
        noon = FIRST + timedelta(days=6, hours=12)
        lines = recomputed(conn, noon)
        (there,) = totals(conn, Window(noon, noon + timedelta(minutes=15)))
    assert there.turns == sum(one.counts[0] for one in lines) > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("month", [1_000_000], indirect=True)
def test_a_million_turns_are_folded_in_and_read_within_bounds(
    store: Database, url: str, month: Month
) -> None:
    pages = [took for _ in written(url, month, chunk=PAGE) for took in folded(store)]
    said_of("10,000 turns of a few hours are folded in", pages)
    check(store, month)
    while store.run(fold):  # days that are over are added up
        pass
    days_31, days_7 = Window(FIRST, LAST), Window(LAST - timedelta(days=7), LAST)
    reports = [_report(store, window) for window in (days_31, days_7) for _ in range(3)]
    said_of("a report, with all its sections", reports)
    begins = day_of(datetime.now(UTC)) + timedelta(days=1)
    busy = Month(turns=10 * PAGE, seed=20, begins=begins, within=timedelta(minutes=150))
    now = [took for _ in written(url, busy, chunk=PAGE) for took in folded(store)]
    said_of("10,000 turns of a quarter of an hour are folded in", now)
    with store.begin() as conn:
        assert totals(conn, Window(begins, begins + timedelta(days=1)))[0].turns == busy.turns
        conn.execute(text("SET LOCAL statement_timeout = 0"))  # all rows are looked at
        # Nobody has said anything in these turns: what is promised of replies is not of them.
        assert [
            one for each in OF_FIGURES for one in _broken(conn, each, since=None, limit=9)
        ] == []
    # On a machine that does nothing else; these bounds are for one that has two cores.
    assert _median(now) < 0.1
    assert _median(pages) < 0.3
    assert max(reports).seconds < 2


def _report(store: Database, window: Window) -> Took:
    """Read a report, make its page, and return how long that took."""
    times: list[Took] = []
    with timed(store, times):
        with store.begin() as conn:
            found = reporting.read(conn, window, zone="Asia/Kolkata")
        assert len(report_page(found)) < 1_000_000
    assert found.behaviours and found.suggestions is not None
    return times[0]
