"""The slowest sessions of a report: ten of those that there are, whoever else was slow."""

from datetime import UTC, datetime, timedelta

from tests import rows
from tests.folded import fold_all
from turnmill.domain.analytics.windows import SLOT, Window, slot_of
from turnmill.domain.ids import SessionId
from turnmill.store.analytics import report_rows
from turnmill.store.database import Database
from turnmill.store.line.removing import remove_sessions

NOW = slot_of(datetime.now(UTC))
DAY = Window(NOW - timedelta(days=1), NOW)


def slow(store: Database, session: SessionId, slot: int, seconds: float) -> None:
    turn = rows.send(store, session)
    rows.run(store, turn)
    rows.took(store, turn, until=NOW - slot * SLOT + SLOT / 2, seconds=seconds)


def slowest(store: Database) -> list[SessionId]:
    fold_all(store)
    return [SessionId(one.session_id) for one in store.run_single(report_rows.slowest, DAY)]


def test_one_that_is_slow_all_day_hides_no_other(store: Database) -> None:
    stuck, others = rows.start(store), [rows.start(store) for _ in range(11)]
    for slot in range(1, 41):
        slow(store, stuck, slot, 600 + slot)
    for n, other in enumerate(others):
        slow(store, other, 50 + n, 60 - n)
    assert slowest(store) == [stuck, *others[:9]]


def test_those_whose_rows_are_gone_hide_none_that_is_there(store: Database) -> None:
    gone, there = [rows.start(store) for _ in range(14)], rows.start(store)
    for n, one in enumerate(gone):
        slow(store, one, 1 + n, 600)
    slow(store, there, 30, 2)
    fold_all(store)
    with store.begin() as conn:
        remove_sessions(conn, gone)
    assert slowest(store) == [there]


def test_of_a_quarter_the_slowest_may_be_later_than_in_the_first_ones(store: Database) -> None:
    """Ten sessions are found at once; one that took longer is in none of these quarters."""
    crowd, late = [rows.start(store) for _ in range(10)], rows.start(store)
    stuck = rows.start(store)
    for slot in range(1, 13):
        slow(store, stuck, slot, 600)
    for one in crowd:
        slow(store, one, 1, 1)
    slow(store, late, 20, 300)
    assert slowest(store)[:2] == [stuck, late]
