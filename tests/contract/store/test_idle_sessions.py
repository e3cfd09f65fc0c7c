"""Idle sessions are archived, and what was archived long ago goes."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from sqlalchemy import func, select

from tests import rows
from turnmill.domain.errors import SessionArchived, SessionNotFound
from turnmill.domain.idle import is_idle
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import SessionStatus, TurnState
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.nouns import sessions, turns
from turnmill.store.schema.house_tables import announcements
from turnmill.store.schema.tables import attempts, messages
from turnmill.store.schema.tables import turns as turn_rows
from turnmill.store.upkeep import jobs
from turnmill.store.upkeep import retention as upkeep

DAY = timedelta(days=1)


def status(store: Database, session: SessionId) -> SessionStatus:
    with store.begin() as conn:
        return sessions.get(conn, session).status


def old(store: Database, by: timedelta, **options: object) -> SessionId:
    session = rows.start(store, **options)
    with store.begin() as conn:
        rows.age(conn, session, by)
    return session


def archive(store: Database, default_ttl: timedelta | None = 30 * DAY, limit: int = 200) -> int:
    with store.begin() as conn:
        return upkeep.archive_idle(conn, default_ttl=default_ttl, limit=limit)


def test_a_session_without_activity_for_the_default_time_is_archived(store: Database) -> None:
    idle, busy = old(store, 31 * DAY), old(store, 29 * DAY)
    assert archive(store) == 1
    assert status(store, idle) is SessionStatus.ARCHIVED
    assert status(store, busy) is SessionStatus.ACTIVE
    with store.begin() as conn:
        assert sessions.get(conn, idle).archived_at is not None


def test_a_session_of_its_own_idle_time_goes_by_that(store: Database) -> None:
    short = old(store, 2 * DAY, idle_ttl=DAY)
    long = old(store, 40 * DAY, idle_ttl=50 * DAY)
    assert archive(store) == 1
    assert status(store, short) is SessionStatus.ARCHIVED
    assert status(store, long) is SessionStatus.ACTIVE


def test_without_a_default_only_sessions_that_ask_for_it_are_archived(store: Database) -> None:
    asked, silent = old(store, 400 * DAY, idle_ttl=DAY), old(store, 400 * DAY)
    assert archive(store, None) == 1
    assert status(store, asked) is SessionStatus.ARCHIVED
    assert status(store, silent) is SessionStatus.ACTIVE


def test_a_session_with_an_unfinished_turn_is_never_archived(store: Database) -> None:
    session = rows.start(store)
    turn = rows.send(store, session)
    with store.begin() as conn:
        rows.age(conn, session, 400 * DAY)
    assert archive(store) == 0
    rows.run(store, turn)
    with store.begin() as conn:
        rows.age(conn, session, 400 * DAY)
    assert archive(store) == 1


def test_a_paused_session_waits_for_whoever_paused_it(store: Database) -> None:
    session = old(store, 400 * DAY)
    with store.begin() as conn:
        sessions.pause(conn, session)
    assert archive(store) == 0


def test_chunks_take_the_longest_idle_first_until_none_is_left(store: Database) -> None:
    found = [old(store, (40 + n) * DAY) for n in range(5)]
    assert archive(store, limit=2) == 2
    assert {status(store, one) for one in found[3:]} == {SessionStatus.ARCHIVED}
    assert status(store, found[2]) is SessionStatus.ACTIVE
    assert [archive(store, limit=2) for _ in range(3)] == [2, 1, 0]


def test_an_archived_session_refuses_messages_and_keeps_its_history(store: Database) -> None:
    session = rows.start(store)
    rows.run(store, rows.send(store, session, "remember"))
    with store.begin() as conn:
        rows.age(conn, session, 400 * DAY)
    archive(store)
    with pytest.raises(SessionArchived):
        rows.send(store, session)
    with store.begin() as conn:
        assert [one.text for one in sessions.history(conn, session)] == ["remember", "yes"]


def test_the_query_says_what_the_rule_says(store: Database) -> None:
    now = datetime.now(UTC)
    ages = (DAY, 10 * DAY, 40 * DAY)
    cases = list(product(ages, (None, 2 * DAY, 20 * DAY), (None, 30 * DAY)))
    for age, ttl, default in cases:
        session = old(store, age, idle_ttl=ttl)
        expected = is_idle(
            status=SessionStatus.ACTIVE,
            unfinished=0,
            last_active_at=now - age,
            idle_ttl=ttl,
            default_ttl=default,
            now=now,
        )
        archive(store, default)
        assert (status(store, session) is SessionStatus.ARCHIVED) is expected, (age, ttl, default)
        rows.set_session(store, session, status=SessionStatus.ARCHIVED, archived_at=now)


def test_sessions_archived_long_ago_go_with_every_row(store: Database) -> None:
    session, kept = rows.start(store), rows.start(store, user_id="bob")
    for one in (session, kept):
        rows.run(store, rows.send(store, one))
        with store.begin() as conn:
            sessions.archive(conn, one)
    rows.set_session(store, session, archived_at=datetime.now(UTC) - 100 * DAY)
    with store.begin() as conn:
        assert upkeep.purge_archived(conn, older_than=90 * DAY) == 1
        assert upkeep.purge_archived(conn, older_than=90 * DAY) == 0
    with store.begin() as conn, pytest.raises(SessionNotFound):
        sessions.get(conn, session)
    with store.begin() as conn:
        for table, left in ((turn_rows, 1), (messages, 2), (attempts, 1)):
            assert conn.execute(select(func.count()).select_from(table)).scalar_one() == left


def test_old_notes_about_hints_go_in_chunks(store: Database) -> None:
    now = datetime.now(UTC)
    with store.begin() as conn:
        for n in range(5):
            conn.execute(
                announcements.insert().values(
                    session_id=new_id(), at=now - (2 * DAY if n else timedelta(0))
                )
            )
        gone = [upkeep.purge_announcements(conn, older_than=DAY, limit=3) for _ in range(3)]
    assert gone == [3, 1, 0]


def test_a_slot_is_taken_once(store: Database) -> None:
    slot = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    with store.begin() as conn:
        assert jobs.take_slot(conn, "job", slot)
        assert not jobs.take_slot(conn, "job", slot)
        assert jobs.take_slot(conn, "other", slot)
        assert jobs.take_slot(conn, "job", slot + timedelta(minutes=1))


def test_what_a_job_counted_is_kept(store: Database) -> None:
    slot = datetime.now(UTC)
    with store.begin() as conn:
        jobs.take_slot(conn, "job", slot)
        assert jobs.run_of(conn, "job", slot) is None
        jobs.finish_slot(conn, "job", slot, result={"done": 3})
        assert jobs.run_of(conn, "job", slot) == {"done": 3}
        assert jobs.run_of(conn, "other", slot) is None


def test_old_runs_are_forgotten(store: Database) -> None:
    now = datetime.now(UTC)
    with store.begin() as conn:
        for days in (90, 31, 29, 0):
            jobs.take_slot(conn, "job", now - days * DAY)
        assert jobs.purge_runs(conn, older_than=30 * DAY) == 2
        assert not jobs.take_slot(conn, "job", now - 29 * DAY)


def test_a_failed_turn_that_is_run_again_keeps_its_session_awake(store: Database) -> None:
    session = rows.start(store)
    turn = rows.send(store, session)
    rows.run(store, turn, TurnState.FAILED)
    with store.begin() as conn:
        rows.age(conn, session, 400 * DAY)
        turns.retry(conn, turn, new_id=TurnId(new_id()))
    assert archive(store) == 0
