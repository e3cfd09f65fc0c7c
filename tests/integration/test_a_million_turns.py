"""Figures of a month: folded in soon, read at once, and exact, however many turns there are."""

import logging
import math
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.conftest import fresh_database
from tests.generated_month import DAYS, FIRST, Month, turns_of, write_month
from turnmill.domain.analytics.windows import Window
from turnmill.store.analytics.figures import Dimension, Latency, percentiles, totals
from turnmill.store.analytics.folding import fold, recomputed
from turnmill.store.database import Database
from turnmill.store.nouns.events import give_places
from turnmill_worker.stack.postgres import EmbeddedPostgres

log = logging.getLogger(__name__)

ALL = Window(FIRST, FIRST + timedelta(days=DAYS + 1))
QUANTILES = (0.5, 0.9, 0.95, 0.99)


def folded(store: Database, *, tag: str = "team") -> list[float]:
    """Fold everything in, and return how long each page of 10,000 took."""
    while store.run(give_places, limit=50_000):
        pass
    pages: list[float] = []
    while True:
        began = time.perf_counter()
        if not store.run(fold, tag=tag):
            return pages
        pages.append(time.perf_counter() - began)


@pytest.fixture
def month(request: pytest.FixtureRequest) -> Month:
    return Month(turns=request.param)


@pytest.fixture
def store(
    month: Month, postgres_server: EmbeddedPostgres, migrated_template: str
) -> Iterator[Database]:
    with fresh_database(postgres_server, migrated_template) as url:
        database = Database(url)
        database.run(fold, tag="team")  # nothing is there: what comes is folded in with its events
        write_month(url, month)
        yield database
        database.close()


def check(store: Database, month: Month) -> None:
    """Compare figures of the month with those of the turns that it was made of."""
    whole = list(turns_of(month))
    with store.begin() as conn:
        (sums,) = totals(conn, ALL)
        by_day = totals(conn, ALL, by=[Dimension.DAY, Dimension.TAG], zone="Asia/Kolkata")
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


@pytest.mark.long
@pytest.mark.parametrize("month", [20_000], indirect=True)
def test_a_month_is_folded_in_exactly_and_its_percentiles_are_within_a_percent(
    store: Database, month: Month
) -> None:
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
    store: Database, month: Month
) -> None:
    pages = sorted(folded(store))
    log.info("a page of 10,000: median %.3f s, of %d", pages[len(pages) // 2], len(pages))
    began = time.perf_counter()
    with store.begin() as conn:
        for by in ((), (Dimension.DAY,), (Dimension.MODEL,), (Dimension.LANE, Dimension.TAG)):
            totals(conn, ALL, by=by, zone="Asia/Kolkata")
        totals(conn, ALL, by=[Dimension.HOUR])
        for latency in Latency:
            percentiles(conn, ALL, of=latency)
        percentiles(conn, ALL, of=Latency.TOTAL, by=[Dimension.MODEL])
    took = time.perf_counter() - began
    log.info("the queries of a report: %.3f s", took)
    check(store, month)
