"""Folding is exact: whatever happens in between, figures are those that rows add up to."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from tests import rows
from tests.crowd import until_blocked
from tests.folding_course import Course
from turnmill.domain.analytics.windows import SLOT, Window, day_of, slot_of
from turnmill.domain.ids import TurnId
from turnmill.domain.states import TurnState
from turnmill.new_ids import new_id
from turnmill.store.analytics.figures import totals
from turnmill.store.analytics.folding import _adding, fold, recomputed
from turnmill.store.analytics.usage import roll_up
from turnmill.store.database import Database
from turnmill.store.line.removing import remove_sessions
from turnmill.store.nouns import turns
from turnmill.store.nouns.event_log import give_places
from turnmill.store.rules.figure_lines import OTHER, counted, joined
from turnmill.store.rules.figures import MOST_KEPT
from turnmill.store.schema.rollup_tables import rollup_days, rollup_state, rollups, rollups_gone
from turnmill.store.upkeep.invariants import violations

NOW = datetime.now(UTC)
ALL = Window(NOW - timedelta(days=9), NOW + timedelta(days=1))


def check(course: Course) -> None:
    """Hold slots to rows, days to slots, and all of them to the ledger."""
    course.drain()
    with course.store.begin() as conn:
        stored = [counted(row) for row in conn.execute(select(rollups)).mappings()]
        again = [
            line
            for slot in sorted({one.key.slot for one in stored})
            for line in recomputed(conn, slot)
        ]
        (sums,) = totals(conn, ALL)
        days = [counted(row) for row in conn.execute(select(rollup_days)).mappings()]
        until = conn.scalars(select(rollup_state.c.days_until)).one()
        assert violations(conn) == []
    assert joined(stored) == again
    assert joined(days) == joined(
        replace(one, key=one.key._replace(slot=day_of(one.key.slot)))
        for one in stored
        if one.key.slot < until
    )
    assert {name: getattr(sums, name) for name in course.sums()} == course.sums()
    assert sums.cost_usd == course.cost()


@pytest.mark.parametrize("seed", range(5))
def test_whatever_happens_between_folds_figures_are_what_was_done(
    store: Database, tmp_path: Path, seed: int
) -> None:
    course = Course(store, random.Random(seed), tmp_path)
    for _ in range(50):
        course.step()
    check(course)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(100, 120))
def test_whatever_happens_for_long_figures_are_what_was_done(
    store: Database, tmp_path: Path, seed: int
) -> None:
    course = Course(store, random.Random(seed), tmp_path)
    for _ in range(4):
        for _ in range(60):
            course.step()
        check(course)


@pytest.fixture
def three_tags(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tell three values of the tag apart in a slot."""
    for module in ("rules.figure_lines", "analytics.adding"):
        monkeypatch.setattr(f"turnmill.store.{module}.MOST_TAGS", 3)
    _adding.cache_clear()
    yield
    _adding.cache_clear()


def ended_with(store: Database, tag: str) -> TurnId:
    session = rows.start(store, metadata={"team": tag} if tag else {})
    turn = rows.send(store, session)
    rows.run(store, turn)
    rows.ended_at(store, turn, NOW - 3 * SLOT)
    return turn


@pytest.mark.usefixtures("three_tags")
def test_a_value_that_was_told_apart_in_a_slot_is_however_many_come_after_it(
    store: Database,
) -> None:
    store.run(fold, tag="team")
    for tags, named in (
        (("q", "", "z"), {"q", "", "z"}),
        (("b", "a", "c", "z"), {"q", "", "z", "a", OTHER}),
        (("other", "b", "q", "aa"), {"q", "", "z", "a", OTHER}),
    ):
        for tag in tags:
            ended_with(store, tag)
        with store.begin() as conn:
            roll_up(conn)
            stored = [counted(row) for row in conn.execute(select(rollups)).mappings()]
            (slot,) = {one.key.slot for one in stored}
            assert {one.key.tag for one in stored} == named
            assert joined(stored) == recomputed(conn, slot)
    counts = {one.key.tag: one.counts[0] for one in stored}
    assert counts == {"": 1, "a": 1, "q": 2, "z": 2, OTHER: 5}


def test_what_is_kept_of_turns_that_are_gone_is_a_few_rows_of_each_line(store: Database) -> None:
    store.run(fold)
    for _ in range(3 * MOST_KEPT):
        session = rows.start(store)
        turn = rows.send(store, session)
        rows.run(store, turn)
        rows.ended_at(store, turn, NOW - 3 * SLOT)
        with store.begin() as conn:
            roll_up(conn)
            remove_sessions(conn, [session])
    with store.begin() as conn:
        roll_up(conn)
        gone = [counted(row) for row in conn.execute(select(rollups_gone)).mappings()]
        stored = [counted(row) for row in conn.execute(select(rollups)).mappings()]
        again = recomputed(conn, stored[0].key.slot)
    assert len(gone) <= MOST_KEPT
    assert joined(gone) == stored == again
    assert stored[0].counts[0] == 3 * MOST_KEPT


def test_a_turn_that_ran_again_is_added_with_its_last_ending_and_once(store: Database) -> None:
    store.run(fold)
    session = rows.start(store)
    turn = rows.send(store, session)
    rows.run(store, turn, TurnState.FAILED)
    rows.ended_at(store, turn, NOW - 3 * SLOT)
    store.run(give_places)
    with store.begin() as conn:
        turns.retry(conn, turn, new_id=TurnId(new_id()))
    rows.run(store, turn)
    store.run(fold)  # its first ending alone has a place
    with store.begin() as conn:
        assert conn.execute(select(rollups)).all() == []
        roll_up(conn)
        stored = [counted(row) for row in conn.execute(select(rollups)).mappings()]
        assert [one.counts[0] for one in stored] == [1]
        assert stored == recomputed(conn, stored[0].key.slot)


def test_who_folds_at_the_same_time_waits_and_counts_nothing_again(store: Database) -> None:
    if not store.is_postgres:
        pytest.skip("one writes at a time")
    store.run(fold)
    for _ in range(3):
        rows.run(store, rows.send(store, rows.start(store)))
    store.run(give_places)
    with ThreadPoolExecutor(1) as pool:
        with store.begin() as conn:
            assert fold(conn) == 3
            second = pool.submit(store.run, fold)
            until_blocked(store)
        second.result(timeout=10)
    check_turns(store, 3)


def check_turns(store: Database, count: int) -> None:
    with store.begin() as conn:
        roll_up(conn)
        (sums,) = totals(conn, ALL)
        assert sums.turns == count
        assert violations(conn) == []


def test_what_a_session_came_to_stays_when_it_goes_before_it_is_folded_in(store: Database) -> None:
    store.run(fold)
    session = rows.start(store)
    for state in (TurnState.SUCCEEDED, TurnState.FAILED):
        rows.run(store, rows.send(store, session), state)
    with store.begin() as conn:
        remove_sessions(conn, [session])
    check_turns(store, 2)


@pytest.mark.parametrize("change", ["counted twice", "not counted", "kept twice"])
def test_figures_that_count_a_turn_twice_or_not_break_a_promise(
    store: Database, change: str
) -> None:
    store.run(fold)
    for gone in (False, True):
        session = rows.start(store)
        rows.run(store, rows.send(store, session))
        check_turns(store, 1 + gone)
    with store.begin() as conn:
        remove_sessions(conn, [session])
        table = rollups_gone if change == "kept twice" else rollups
        changed = table.c.turns + (-1 if change == "not counted" else 1)
        conn.execute(update(table).values(turns=changed))
        found = {one.name for one in violations(conn, since=slot_of(NOW))}
        assert found == {one.name for one in violations(conn)} == {"figures_count_each_turn_once"}
