"""An alert goes by what was usual when it opened: what goes wrong for days is not well for that."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, insert, update

from tests.folded import fold_all
from turnmill.domain.analytics.alert_bounds import AlertBounds, Rule
from turnmill.domain.analytics.windows import slot_of
from turnmill.store.analytics import alerts as stored
from turnmill.store.analytics import watching
from turnmill.store.analytics.alerts import Alert
from turnmill.store.database import Database
from turnmill.store.schema.alert_tables import alerts
from turnmill.store.schema.rollup_tables import COUNTS, DIMENSIONS, DOLLARS, SKETCHES, rollups

ONLY = AlertBounds(off=frozenset(Rule) - {Rule.FAILURES, Rule.CACHE})
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
#: In each hour of a week and some: turns that succeeded and that failed, and tokens from a cache.
WELL, ILL = (100, 0, 600_000), (50, 50, 0)


def hours(store: Database, *, ill: timedelta) -> None:
    """Let hours have been well, and ill since so long."""
    until = slot_of(datetime.now(UTC))
    nothing: dict[str, Any] = dict.fromkeys((*COUNTS, *DOLLARS), 0)
    nothing |= {name: [] for name in SKETCHES}
    lines = []
    for n in range(1, 24 * 9):
        at = until - n * HOUR
        succeeded, failed, cached = ILL if at >= until - ill else WELL
        of = dict.fromkeys(DIMENSIONS, "") | {"provider": "mock", "model": "m"}
        turns = {"turns": succeeded + failed, "succeeded": succeeded, "failed": failed}
        tokens = {"input_tokens": 1_000_000, "cached_tokens": cached}
        lines.append({"slot": at, **of, **nothing, **turns, **tokens})
    with store.begin() as conn:
        conn.execute(delete(rollups))
        conn.execute(insert(rollups), lines)


def look(store: Database) -> tuple[int, int]:
    with store.begin() as conn:
        found = watching.judged(conn, ONLY)
        assert not found.blind
        return stored.look(conn, found.judged)


def is_open(store: Database) -> list[Alert]:
    with store.begin() as conn:
        return sorted(stored.find(conn, limit=9), key=lambda one: one.rule.value)


def passes(store: Database, span: timedelta) -> None:
    with store.begin() as conn:
        for one in stored.find(conn, limit=9):
            opened = one.opened_at - span
            conn.execute(update(alerts).where(alerts.c.id == one.id).values(opened_at=opened))


@pytest.fixture(autouse=True)
def _folded(store: Database) -> None:
    fold_all(store)


def test_what_goes_wrong_for_days_stays_an_alert_until_it_is_well(store: Database) -> None:
    hours(store, ill=7 * HOUR)
    assert look(store) == (2, 0)
    before = is_open(store)
    hours(store, ill=7 * DAY)  # now half of all turns fail, and no token comes from a cache
    passes(store, 7 * DAY)
    for _ in range(2):
        with store.begin() as conn:
            an_hour_ago = datetime.now(UTC) - HOUR
            conn.execute(update(alerts).values(calm_since=an_hour_ago))
        assert look(store) == (0, 0)
    assert [(one.rule, one.usual, one.bound) for one in is_open(store)] == [
        (one.rule, one.usual, one.bound) for one in before
    ]
    hours(store, ill=timedelta(0))
    assert look(store) == (0, 0)
    with store.begin() as conn:
        conn.execute(update(alerts).values(calm_since=datetime.now(UTC) - HOUR))
    assert look(store) == (0, 2)


def test_what_has_been_so_for_two_weeks_is_usual_and_no_alert_any_more(store: Database) -> None:
    hours(store, ill=7 * HOUR)
    assert look(store) == (2, 0)
    hours(store, ill=9 * DAY)
    passes(store, 15 * DAY)
    assert look(store) == (0, 0)
    with store.begin() as conn:
        conn.execute(update(alerts).values(calm_since=datetime.now(UTC) - HOUR))
    assert look(store) == (0, 2)
    assert look(store) == (0, 0)
