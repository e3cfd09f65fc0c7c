"""What stands for all turns where they are too many to be looked at one by one."""

from datetime import UTC, datetime, timedelta

import pytest

from tests import rows
from tests.folded import fold_all
from turnmill.domain.analytics.behaving import Behaviour
from turnmill.domain.analytics.windows import SLOT, Window, slot_of
from turnmill.domain.states import TurnState
from turnmill.store.analytics import behaviours, drawn, reporting
from turnmill.store.analytics.ended_turns import Scope
from turnmill.store.analytics.figures import Dimension, Latency, counted_above, longest
from turnmill.store.database import Database

NOW = datetime.now(UTC)
DAY = Window(NOW - timedelta(days=1), NOW + timedelta(hours=1))


@pytest.fixture
def full(store: Database) -> Database:
    """Thirty-two sessions, each of a turn that succeeded and, half of them, of one that did not."""
    for n in range(32):
        session = rows.start(store, user_id=f"user-{n}")
        rows.run(store, rows.send(store, session))
        if n % 2:
            rows.run(store, rows.send(store, session), TurnState.FAILED)
    fold_all(store)
    return store


@pytest.mark.parametrize("aimed_at", [24, 48])
def test_about_as_many_sessions_are_drawn_as_are_to_be(
    full: Database, monkeypatch: pytest.MonkeyPatch, aimed_at: int
) -> None:
    monkeypatch.setattr(drawn, "_AIMED_AT", aimed_at)
    monkeypatch.setattr(drawn, "MOST_TURNS", 47)
    with full.begin() as conn:
        found, again = (drawn.draw_of(conn, DAY) for _ in range(2))
        assert found is not None
        assert again == found, "the same sessions, however often somebody looks"
        assert found.sessions.share == aimed_at / 48
        assert found.sessions.drawn is not None
        expected = 32 * aimed_at / 48  # five times the width of such a distribution, at most
        assert abs(len(found.sessions.drawn) - expected) <= (0 if aimed_at == 48 else 14)
        (failed,) = [
            one
            for one in behaviours.clusters(conn, found.sessions, examples=0)
            if one.behaviour is Behaviour.FAILED
        ]
        assert 0 < failed.users <= len(found.sessions.drawn)
        assert failed.turns == round(failed.users / failed.looked_at), "what they stand for"
        monkeypatch.setattr(drawn, "MOST_TURNS", 48)
        assert drawn.draw_of(conn, DAY) is None


def test_a_report_of_very_many_turns_has_all_its_sections_and_says_of_what_they_are(
    full: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with full.begin() as conn:
        whole = reporting.read(conn, DAY, zone="UTC")
        monkeypatch.setattr(drawn, "MOST_TURNS", 10)
        monkeypatch.setattr(drawn, "_AIMED_AT", 48)
        sample = reporting.read(conn, DAY, zone="UTC")
        thorough = reporting.read(conn, DAY, zone="UTC", thorough=True)
    assert sample.behaviours == whole.behaviours == thorough.behaviours
    assert sample.suggestions == whole.suggestions
    assert [("sample" in one) for one in sample.notes] == [True]
    assert whole.notes == thorough.notes == ()


def test_hours_that_are_looked_at_are_looked_at_whole_and_no_others(full: Database) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)  # these turns are of now
    with full.begin() as conn:
        for hours, any_there in (([hour, hour - timedelta(hours=1)], True), ([], False)):
            scope = Scope(window=DAY, hours=hours)
            assert bool(behaviours.clusters(conn, scope, examples=0)) is any_there
            assert scope.looks_at(hour) is any_there


def test_slots_are_found_by_what_took_longest_in_them(store: Database) -> None:
    session = rows.start(store)
    for ago, seconds in ((2, 30), (5, 90), (9, 3)):
        turn = rows.send(store, session)
        rows.run(store, turn)
        rows.took(store, turn, until=NOW - ago * SLOT, seconds=seconds)
    fold_all(store)
    with store.begin() as conn:
        found = longest(conn, DAY, of=Latency.TOTAL, most=2)
        late = counted_above(conn, DAY, of=Latency.TOTAL, ms=20_000, by=Dimension.SLOT)
    assert [slot for slot, _ in found] == [slot_of(NOW - 5 * SLOT), slot_of(NOW - 2 * SLOT)]
    assert all(
        took <= most < took * 1.03 for took, (_, most) in zip((9e4, 3e4), found, strict=True)
    )
    assert late == {slot_of(NOW - 5 * SLOT): 1, slot_of(NOW - 2 * SLOT): 1}
