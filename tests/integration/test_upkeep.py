"""The jobs of the schedule against Postgres: once for a slot, whatever else goes on."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread

import pytest
from sqlalchemy import text, update

from tests import rows
from tests.integration.explaining import plan_of
from turnmill.domain.errors import Overloaded, ProviderUnknown
from turnmill.domain.idle import Retention
from turnmill.domain.ids import SessionId
from turnmill.domain.states import SessionStatus
from turnmill.store.analytics import usage
from turnmill.store.database import Database
from turnmill.store.nouns import sessions
from turnmill.store.schema.kept_tables import kept_refs
from turnmill.store.upkeep import jobs
from turnmill.store.upkeep import retention as upkeep
from turnmill_worker.providers.mock.provider import MockProvider
from turnmill_worker.upkeep import jobs as jobs_of_worker
from turnmill_worker.upkeep.jobs import Upkeep

SLOT = datetime.now(UTC).replace(second=0, microsecond=0)
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


class Threads(MockProvider):
    """A provider that notes which threads were closed, and whether that failed."""

    def __init__(self, store: Database) -> None:
        super().__init__()
        self.store = store
        self.broken: Exception | None = None
        self.closed: list[str] = []
        self.archived_by_then: list[bool] = []

    async def close(self, thread_ref: str) -> None:
        if self.broken is not None:
            raise self.broken
        self.closed.append(thread_ref)
        with self.store.begin() as conn:
            found = sessions.find(conn, status=SessionStatus.ARCHIVED)
        self.archived_by_then.append(len(found) > 0)


@pytest.fixture
def store(database: Database) -> Database:
    """One in which a promise may be broken."""
    return database


@pytest.fixture
def threads(store: Database) -> Threads:
    return Threads(store)


@pytest.fixture
def work(store: Database, threads: Threads) -> Upkeep:
    return Upkeep(store, lambda name: threads)


def idle(store: Database, ref: str = "") -> SessionId:
    session = rows.start(store)
    with store.begin() as conn:
        rows.age(conn, session, 40 * DAY)
    rows.set_session(store, session, provider_ref=ref)
    return session


def test_a_thread_is_closed_after_its_session_was_archived(
    store: Database, threads: Threads, work: Upkeep
) -> None:
    session = idle(store, "thread-1")
    idle(store)
    counts = asyncio.run(work.archive_idle(SLOT))
    assert counts == {"archived": 2, "audit_chained": 0, "closed": 1, "not_closed": 0}
    assert (threads.closed, threads.archived_by_then) == (["thread-1"], [True])
    with store.begin() as conn:
        assert sessions.get(conn, session).provider_ref == ""


def test_a_thread_that_could_not_be_closed_is_tried_again_in_the_next_slot(
    store: Database, threads: Threads, work: Upkeep, caplog: pytest.LogCaptureFixture
) -> None:
    idle(store, "thread-1")
    threads.broken = Overloaded("busy", detail="canary")
    with caplog.at_level(logging.WARNING):
        counts = asyncio.run(work.archive_idle(SLOT))
    assert counts == {"archived": 1, "audit_chained": 0, "closed": 0, "not_closed": 1}
    assert "1 threads or answers could not be closed at mock: busy" in caplog.text
    assert "canary" not in caplog.text
    threads.broken = None
    with store.begin() as conn:
        conn.execute(update(kept_refs).values(due_at=SLOT))
    counts = asyncio.run(Upkeep(store, lambda _: threads).archive_idle(SLOT + 5 * MINUTE))
    assert counts == {"archived": 0, "audit_chained": 0, "closed": 1, "not_closed": 0}


def test_a_provider_that_breaks_does_not_stop_the_others(store: Database, threads: Threads) -> None:
    broken = Threads(store)
    broken.broken = RuntimeError("boom")
    idle(store, "thread-1")
    rows.set_session(store, idle(store, "thread-2"), provider="broken")
    rows.set_session(store, idle(store, "thread-3"), provider="gone")

    def provider(name: str) -> Threads:
        if name == "gone":
            raise ProviderUnknown
        return broken if name == "broken" else threads

    counts = asyncio.run(Upkeep(store, provider).archive_idle(SLOT))
    assert counts == {"archived": 3, "audit_chained": 0, "closed": 1, "not_closed": 2}
    assert threads.closed == ["thread-1"]


def test_a_session_that_was_archived_by_hand_has_its_thread_closed_too(
    store: Database, threads: Threads, work: Upkeep
) -> None:
    session = rows.start(store)
    rows.set_session(store, session, provider_ref="thread-1")
    with store.begin() as conn:
        sessions.archive(conn, session)
    asyncio.run(work.archive_idle(SLOT))
    assert threads.closed == ["thread-1"]


def test_a_job_runs_once_for_a_slot_however_many_beats_there_are(
    store: Database, threads: Threads, work: Upkeep
) -> None:
    idle(store, "thread-1")

    async def eight_beats() -> list[object]:
        return list(await asyncio.gather(*(work.archive_idle(SLOT) for _ in range(8))))

    counts = asyncio.run(eight_beats())
    assert [one is None for one in counts].count(False) == 1
    assert threads.closed == ["thread-1"]
    assert asyncio.run(work.archive_idle(SLOT)) is None


def test_every_job_leaves_a_note_of_what_it_did(store: Database, work: Upkeep) -> None:
    for job in (work.archive_idle, work.roll_up_usage, work.self_check, work.purge):
        assert asyncio.run(job(SLOT)) is not None
    with store.begin() as conn:
        noted = conn.execute(
            text("SELECT name FROM turnmill.job_runs WHERE finished_at IS NOT NULL")
        )
        assert len(noted.all()) == 4
        assert jobs.run_of(conn, "turnmill.self_check", SLOT) == {"violations": 0}


def test_a_job_that_dies_leaves_its_slot_taken_and_the_next_one_runs(
    store: Database, work: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(jobs_of_worker, "fold", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            asyncio.run(work.roll_up_usage(SLOT))
    assert asyncio.run(work.roll_up_usage(SLOT)) is None
    assert asyncio.run(work.roll_up_usage(SLOT + timedelta(minutes=10))) is not None


def test_a_roll_up_folds_in_what_has_ended_whenever_that_was(store: Database, work: Upkeep) -> None:
    session = rows.start(store)
    for days_ago in range(3):
        turn = rows.send(store, session)
        rows.run(store, turn)
        rows.ended_at(store, turn, SLOT - days_ago * DAY)
    counts = asyncio.run(work.roll_up_usage(SLOT))
    assert counts is not None and counts["placed"] == 3
    with store.begin() as conn:
        lines = usage.report(conn, first=(SLOT - 2 * DAY).date(), last=SLOT.date())
    assert [line.turns for line in lines] == [1, 1, 1]


def test_two_roll_ups_at_once_end_with_exact_figures(store: Database) -> None:
    session = rows.start(store)
    for _ in range(5):
        rows.run(store, rows.send(store, session))
    together = Barrier(4)

    def roll_up() -> None:
        together.wait(timeout=10)
        with store.begin() as conn:
            usage.roll_up(conn)

    threads = [Thread(target=roll_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    with store.begin() as conn:
        lines = usage.report(conn, first=SLOT.date(), last=datetime.now(UTC).date())
    assert [line.turns for line in lines] == [5]


def test_a_broken_promise_is_counted_and_logged_by_ids_only(
    store: Database, work: Upkeep, caplog: pytest.LogCaptureFixture
) -> None:
    session = rows.start(store)
    rows.send(store, session, "canary")
    assert asyncio.run(work.self_check(SLOT)) == {"violations": 0}
    rows.set_session(store, session, unfinished=2)
    with caplog.at_level(logging.ERROR):
        counts = asyncio.run(work.self_check(SLOT + timedelta(hours=1)))
    assert counts == {"violations": 1}
    assert str(session) in caplog.text
    assert "canary" not in caplog.text


def test_archived_sessions_are_kept_unless_a_time_was_set(
    store: Database, threads: Threads
) -> None:
    session = rows.start(store)
    with store.begin() as conn:
        sessions.archive(conn, session)
    rows.set_session(store, session, archived_at=SLOT - 400 * DAY)
    kept = asyncio.run(Upkeep(store, lambda name: threads).purge(SLOT))
    assert kept is not None
    assert kept["sessions"] == 0
    keep = Retention(archived=365 * DAY)
    removed = asyncio.run(
        Upkeep(store, lambda name: threads, retention=keep).purge(SLOT + timedelta(hours=1))
    )
    assert removed is not None
    assert removed["sessions"] == 1


def test_a_session_somebody_writes_to_is_left_for_the_next_time(store: Database) -> None:
    held, free = idle(store), idle(store)
    with store.begin() as writer:
        writer.execute(
            text("SELECT 1 FROM turnmill.sessions WHERE id = :id FOR NO KEY UPDATE"), {"id": held}
        )
        with store.begin() as conn:
            assert upkeep.archive_idle(conn, default_ttl=30 * DAY) == 1
            assert sessions.get(conn, free).status is SessionStatus.ARCHIVED
    with store.begin() as conn:
        assert upkeep.archive_idle(conn, default_ttl=30 * DAY) == 1


def test_idle_sessions_are_found_by_index_among_many_that_are_not(store: Database) -> None:
    with store.begin() as conn:
        conn.execute(
            text(
                "INSERT INTO turnmill.sessions (id, user_id, provider, model, idle_seconds)"
                " SELECT gen_random_uuid(), 'u', 'p', 'm', CASE n % 4 WHEN 0 THEN 86400 END"
                " FROM generate_series(1, 20000) AS n"
            )
        )
        conn.execute(text("ANALYZE turnmill.sessions"))
    plan = plan_of(store, lambda conn: upkeep.archive_idle(conn, default_ttl=30 * DAY))
    assert plan.scanned == frozenset()
    assert "ix_sessions_idle" in plan.indexes
    assert plan.pages < 100


def test_a_job_that_fails_says_so_where_doctor_looks(
    store: Database, work: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(upkeep, "archive_idle", broken)
    for slot in (SLOT, SLOT + timedelta(minutes=5)):
        with pytest.raises(ZeroDivisionError):
            asyncio.run(work.archive_idle(slot))
    with store.begin() as conn:
        [failing] = jobs.failing_jobs(conn)
    assert (failing.slot, failing.error_code) == (SLOT + timedelta(minutes=5), "ZeroDivisionError")
