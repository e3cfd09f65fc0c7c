"""What beat starts: a worker does it, once for a slot, however often it was sent."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

import pytest
from celery import Celery

from tests import rows
from tests.fundamentals.conftest import System
from tests.waiting import until
from turnmill import Client, wire
from turnmill.store.database import Database
from turnmill.store.upkeep import jobs

WAIT = 30


@pytest.fixture
def store(system: System) -> Iterator[Database]:
    database = Database(system.database_url)
    yield database
    database.close()


def this_minute() -> datetime:
    """Return the slot that a beat would send now."""
    return datetime.now(UTC).replace(second=0, microsecond=0)


def send(system: System, task: str, slot: datetime, *, times: int) -> None:
    """Send what so many beats would have sent."""
    with Celery(broker=system.broker_url) as app:
        for _ in range(times):
            app.send_task(task, args=[slot.isoformat()], queue=wire.UPKEEP_QUEUE)


def outcome(store: Database, task: str, slot: datetime) -> dict[str, int]:
    """Wait until the job has finished for this slot."""

    def counted() -> Mapping[str, int] | None:
        with store.begin() as conn:
            return jobs.run_of(conn, task, slot)

    until(lambda: counted() is not None)
    return dict(counted() or {})


def test_idle_sessions_are_archived(system: System, client: Client, store: Database) -> None:
    idle = client.sessions.create(user_id="ada", idle_ttl=timedelta(minutes=1))
    busy = client.sessions.create(user_id="ada", idle_ttl=timedelta(hours=1))
    with store.begin() as conn:
        for session in (idle, busy):
            rows.age(conn, session.id, timedelta(minutes=2))
    slot = this_minute()
    send(system, wire.ARCHIVE_IDLE, slot, times=1)
    assert outcome(store, wire.ARCHIVE_IDLE, slot)["archived"] >= 1
    assert client.sessions.get(idle).status == "archived"
    assert client.sessions.get(busy).status == "active"


def test_usage_is_rolled_up_once_for_a_slot(
    system: System, client: Client, store: Database
) -> None:
    session = client.sessions.create(user_id="ada", provider="mock", model="only-here")
    client.send(session, "Hello").result(timeout=WAIT)
    slot = this_minute()
    send(system, wire.ROLL_UP_USAGE, slot, times=5)
    assert outcome(store, wire.ROLL_UP_USAGE, slot)["folded"] >= 1
    report = client.analytics.report(days=2, refresh=False)
    assert [line.succeeded for line in report.lines if line.model == "only-here"] == [1]


def test_the_self_check_finds_nothing_after_all_that_was_tried_before(
    system: System, store: Database
) -> None:
    slot = this_minute()
    send(system, wire.SELF_CHECK, slot, times=1)
    assert outcome(store, wire.SELF_CHECK, slot) == {"violations": 0}
