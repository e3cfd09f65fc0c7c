"""Hints: what the dispatcher announces, how often, and that a lost one is announced again."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from tests import rows, steps
from tests.crowd import at_once, succeeded
from turnmill.domain.ids import TurnId
from turnmill.domain.states import Lane, TurnState
from turnmill.store.database import Database
from turnmill.store.line.backlogs import backlogs
from turnmill.store.line.claim import claim_suspects
from turnmill.store.line.due import announce_due, count_due, note_announced
from turnmill.store.nouns import sessions
from turnmill.store.records import Head, Waits

GRACE = QUIET = timedelta(seconds=10)
NOW = timedelta(0)


@pytest.fixture
def store(database_url: str) -> Iterator[Database]:
    database = Database(database_url, pool_size=10)
    yield database
    steps.assert_sound(database)
    database.close()


def announce(
    store: Database,
    lane: Lane = Lane.INTERACTIVE,
    *,
    providers: tuple[str, ...] = ("mock",),
    limit: int = 100,
    grace: timedelta = NOW,
    quiet: timedelta = QUIET,
) -> list[TurnId]:
    waits = Waits(grace, quiet)
    with store.single() as conn:
        heads = announce_due(
            conn, lane, providers=providers, limit=limit, hints=0, waits=waits, drained=waits
        )
    return [head.turn_id for head in heads]


def sent(
    store: Database, *, age: int = 1, provider: str = "mock", lane: str = "interactive"
) -> TurnId:
    """Let a session's first turn be due for `age` seconds."""
    due = datetime.now(UTC) - timedelta(seconds=age)
    session = rows.start(store, provider=provider)
    return steps.send(store, session, deliver_at=due, lane=lane).turn_id


def test_the_oldest_heads_are_announced_first_up_to_the_limit(store: Database) -> None:
    turns = {age: sent(store, age=age) for age in (3, 9, 1, 7)}
    assert announce(store, limit=2) == [turns[9], turns[7]]


def test_a_head_that_was_announced_is_left_alone_for_a_while(store: Database) -> None:
    turn = sent(store)
    assert announce(store) == [turn]
    assert announce(store) == []
    assert announce(store, quiet=NOW) == [turn]


def test_a_head_that_just_became_due_is_left_to_who_made_it_due(store: Database) -> None:
    turn = sent(store, age=5)
    assert announce(store, grace=GRACE) == []
    assert announce(store, grace=timedelta(seconds=2)) == [turn]


def test_a_head_that_became_due_after_its_announcement_is_announced_again(
    store: Database,
) -> None:
    turn = sent(store)
    announce(store)
    claim = steps.take_one(store, turn)
    steps.end(store, claim, TurnState.RETRYING)
    assert announce(store) == [turn]


def test_notes_that_a_crash_of_the_server_took_cost_a_doubled_hint(store: Database) -> None:
    turn = sent(store)
    announce(store)
    with store.begin() as conn:
        conn.exec_driver_sql("TRUNCATE turnmill.announcements")
    assert announce(store) == [turn]


def test_only_what_can_run_is_announced(store: Database) -> None:
    steps.take_one(store, sent(store))
    sent(store, age=-600)
    sent(store, provider="closed")
    sent(store, lane="bulk")
    paused = sent(store)
    with store.begin() as conn:
        sessions.pause(conn, steps.turn(store, paused).session_id)
    assert announce(store) == []


def test_many_dispatchers_at_once_announce_each_head_about_once(store: Database) -> None:
    turns = [sent(store) for _ in range(40)]
    found = succeeded(at_once(*[partial(announce, store, limit=40)] * 6))
    hints = [turn for group in found for turn in group]
    assert set(hints) == set(turns)
    assert announce(store) == []


def test_a_wake_that_all_dispatchers_hear_is_answered_by_one(store: Database) -> None:
    turn = sent(store)

    def note() -> list[Head]:
        with store.single() as conn:
            return note_announced(conn, [turn])

    heads = [head for group in succeeded(at_once(*[note] * 8)) for head in group]
    assert [head.turn_id for head in heads] == [turn]


def test_a_wake_for_what_cannot_run_is_answered_by_nobody(store: Database) -> None:
    behind = steps.send(store, steps.turn(store, sent(store)).session_id).turn_id
    with store.single() as conn:
        assert note_announced(conn, [behind, sent(store, age=-600)]) == []


def test_a_backlog_is_counted_no_further_than_asked(store: Database) -> None:
    for _ in range(7):
        sent(store, lane="bulk")
    sent(store, lane="bulk", age=-600)
    with store.single() as conn:
        assert count_due(conn, Lane.BULK, providers=["mock"], limit=100) == 7
        assert count_due(conn, Lane.BULK, providers=["mock"], limit=5) == 5
        assert count_due(conn, Lane.BULK, providers=["other"], limit=5) == 0


def test_every_lane_and_provider_with_something_waiting_is_known(store: Database) -> None:
    for provider in ("b", "a", "c"):
        sent(store, provider=provider)
        sent(store, provider=provider, lane="bulk", age=-600)
    steps.take_one(store, sent(store, provider="d"))
    with store.single() as conn:
        found = backlogs(conn)
    expected = [
        (lane, name, due)
        for lane, due in ((Lane.BULK, False), (Lane.INTERACTIVE, True))
        for name in "abc"
    ]
    assert found == expected


def test_suspects_are_taken_by_how_often_they_were_lost(store: Database) -> None:
    once, twice, thrice = (sent(store) for _ in range(3))
    for times, turn in ((1, once), (2, twice), (3, thrice)):
        for _ in range(times):
            steps.take_one(store, turn)
            steps.lose(store, turn)
    for lost, turn in ((1, once), (2, twice), (3, thrice)):
        with store.single() as conn:
            claims = claim_suspects(conn, lost=lost, limit=5, owner="q", lease=steps.LEASE)
        assert [claim.turn_id for claim in claims] == [turn]
