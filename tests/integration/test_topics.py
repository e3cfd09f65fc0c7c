"""Topics as a deployment has them: found by a job in a process of its own, shown by commands."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import delete, func, insert, literal, select, text

from tests.contract.store.test_topics import SAID, hold
from turnmill import Client, Settings
from turnmill.domain.ids import SessionId
from turnmill.store.analytics.topics import end_run
from turnmill.store.database import Database
from turnmill.store.line.topics import forget_topic, hush, users_of
from turnmill.store.nouns import user_archive
from turnmill.store.schema.tables import sessions
from turnmill.store.schema.topic_tables import session_topics, topics
from turnmill.store.types import id_text
from turnmill.store.upkeep import jobs
from turnmill.verbs.analytics import topics as verbs
from turnmill_worker.analytics import child
from turnmill_worker.providers.mock.provider import MockProvider
from turnmill_worker.stack.process import wait_until
from turnmill_worker.upkeep.jobs import Upkeep

SLOT = datetime.now(UTC).replace(second=0, microsecond=0)


def work(store: Database, url: str) -> Upkeep:
    return Upkeep(store, lambda _: MockProvider(), settings=Settings(database_url=url))


@pytest.mark.long
def test_the_job_finds_topics_in_a_process_of_its_own_and_the_client_shows_them(
    store: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNMILL_DATABASE_URL", database_url)
    hold(store, SAID)
    with Client(settings=Settings(database_url=database_url)) as client:
        assert client.analytics.topics().because == verbs.NOT_LOOKED
        counts = asyncio.run(work(store, database_url).find_topics(SLOT))
        assert counts is not None
        assert counts["sampled"] == len(SAID)
        found = client.analytics.topics()
    assert found.because is None
    assert len(found.topics) == counts["topics"]
    assert found.sampled == found.sessions == len(SAID)
    shown = sum(one.sessions for one in found.topics) + found.not_shown
    assert shown == counts["assigned"]
    with store.begin() as conn:
        ran = jobs.last_runs(conn)["turnmill.find_topics"]
    assert ran.result["assigned"] == counts["assigned"]


def test_where_nothing_is_installed_the_job_says_so_and_reads_nothing(
    store: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(store, SAID[:10])
    monkeypatch.setattr("turnmill_worker.upkeep.jobs.find_spec", lambda _: None)
    assert asyncio.run(work(store, database_url).find_topics(SLOT)) == {"not_installed": 1}
    with store.begin() as conn:
        assert conn.execute(select(session_topics)).all() == []


@pytest.mark.long
def test_a_process_that_fails_fails_the_job_with_a_code_and_the_next_night_does_it(
    store: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(store, SAID[:60])
    monkeypatch.setenv("TURNMILL_DATABASE_URL", database_url)
    monkeypatch.setenv("TURNMILL_SCHEMA", "nowhere")
    with pytest.raises(child.TopicsNotFound):
        asyncio.run(work(store, database_url).find_topics(SLOT))
    with store.begin() as conn:
        assert jobs.last_runs(conn)["turnmill.find_topics"].result == {
            "error_code": "TopicsNotFound"
        }
    monkeypatch.delenv("TURNMILL_SCHEMA")
    counts = asyncio.run(work(store, database_url).find_topics(SLOT + timedelta(minutes=1)))
    assert counts is not None
    assert counts["sampled"] == 60


def test_two_who_go_at_once_leave_no_words_of_four_users(store: Database) -> None:
    pytest.importorskip("sklearn")
    from turnmill_worker.analytics.finding import find_topics

    hold(store, SAID)
    find_topics(store)
    topic, leaving = six_users_of_a_topic(store)
    with ThreadPoolExecutor(1) as pool:
        with store.begin() as conn:
            forget_topic(conn, leaving[:1])
            second = pool.submit(store.run, forget_topic, leaving[1:])
            assert wait_until(
                lambda: second.done() or is_waited_for(store), timeout=timedelta(seconds=30)
            )
        second.result(timeout=30)
    with store.begin() as conn:
        assert conn.scalar(select(users_of(literal(topic)))) == 4
        assert conn.scalar(select(topics.c.words).where(topics.c.id == topic)) is None


def test_a_run_that_ends_and_a_session_that_goes_do_not_wait_for_each_other(
    store: Database,
) -> None:
    held = hold(store, SAID[:2])
    with store.begin() as conn:
        conn.execute(insert(topics), [{"id": n, "first_run": 1, "last_run": 1} for n in (1, 2)])
        rows = [
            {"session_id": session, "topic_id": n, "share": 1.0, "run": 1}
            for n, session in enumerate(held, 1)
        ]
        conn.execute(insert(session_topics), rows)
    with ThreadPoolExecutor(1) as pool:
        with store.begin() as conn:
            hush(conn, [1])  # it has the first of its two, and goes on to the second
            run = pool.submit(store.run, end_run, {2: [("flight", 1.0)]})
            assert wait_until(
                lambda: run.done() or is_waited_for(store), timeout=timedelta(seconds=30)
            )
            hush(conn, [1, 2])
        run.result(timeout=30)
    with store.begin() as conn:
        assert conn.scalars(select(topics.c.words)).all() == [None, None]  # of one user each


def six_users_of_a_topic(store: Database) -> tuple[int, list[SessionId]]:
    """Leave a topic that has words with six users, one session each; return two of these."""
    with store.begin() as conn:
        topic = conn.scalars(select(topics.c.id).where(topics.c.words.is_not(None))).first()
        assert topic is not None
        mine = session_topics.c.topic_id == topic
        rows = conn.execute(
            select(func.min(id_text(sessions.c.id)))
            .join(session_topics, session_topics.c.session_id == sessions.c.id)
            .where(mine)
            .group_by(sessions.c.user_id)
            .limit(6)
        )
        kept = [SessionId(UUID(one)) for one in rows.scalars()]
        assert len(kept) == 6
        others = session_topics.c.session_id.not_in(kept)
        conn.execute(delete(session_topics).where(mine, others))
    return topic, kept[:2]


def is_waited_for(store: Database) -> bool:
    with store.begin() as conn:
        return bool(conn.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))


def test_an_archive_tells_the_numbers_of_topics_and_no_words(store: Database) -> None:
    (told,) = (one for one in user_archive.archived() if one.name == "session_topics")
    assert {one.name for one in told.columns} == {"session_id", "topic_id", "share", "run"}
    assert "words" not in json.dumps([one.name for one in told.columns])
