"""Schedules among processes that are killed: no moment is run twice, and none is left out."""

import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from tests import steps
from tests.waiting import until
from turnmill import Client, Missed
from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill.store.schema.schedule_tables import schedules
from turnmill.store.schema.tables import turns
from turnmill_worker.process.dispatcher import Dispatcher
from turnmill_worker.process.scheduling import make_runs
from turnmill_worker.stack.process import wait_until

HOUR = timedelta(hours=1)
SOON = timedelta(seconds=30)
#: Of processes that make runs: as many as the moment is drawn for, on a machine of any speed.
KILLS = 8


def test_a_dispatcher_makes_the_runs_that_are_due(database_url: str) -> None:
    told: list[object] = []
    with Client(database_url=database_url) as client:
        session = client.sessions.create(user_id="ada")
        made = client.schedules.create(session, "Good morning.", cron="@hourly")
        set_back(client._executor.database, made.id, hours=0)
        store = Database(database_url)
        dispatcher = Dispatcher(
            store,
            lease=timedelta(seconds=5),
            tell=lambda news: told.extend(head.turn_id for head in news.heads),
        )
        dispatcher.tick()
        dispatcher.tick()
        (turn,) = client.turns.list(session=session)
        assert told == [turn.id]
        assert client.schedules.get(made).last_turn_id == turn.id
        store.close()


def test_one_process_makes_runs_by_itself() -> None:
    with Client(settings=Settings(database_url="sqlite://")) as client:
        session = client.sessions.create(user_id="ada")
        soon = datetime.now(UTC) + timedelta(seconds=1)
        client.schedules.create(session, "Good morning.", at=soon)
        until(lambda: client.turns.list(session=session))
        assert client.turns.list(session=session)[0].result(timeout=20).text


def set_back(store: Database, schedule: UUID, *, hours: int) -> None:
    moment = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - hours * HOUR
    with store.begin() as conn:
        mine = update(schedules).where(schedules.c.id == schedule)
        conn.execute(mine.values(next_at=moment))


@pytest.mark.long
def test_whoever_is_killed_each_moment_has_one_run(database_url: str) -> None:
    chance, kills, wanted = random.Random(1), 0, 0
    with Client(database_url=database_url) as client:
        store = client._executor.database
        while kills < KILLS:
            if not behind(store):
                wanted += fall_behind(client)
            kills += kill_some(store, database_url, chance)
        while behind(store):  # what the last ones have left
            make_runs(store)
        with store.begin() as conn:
            keys = conn.scalars(select(turns.c.idempotency_key)).all()
        assert len(keys) == len(set(keys)) == made_so_far(store) == wanted
        steps.assert_sound(store)


def fall_behind(client: Client, *, sessions: int = 8, hours: int = 200) -> int:
    """Let the moments of some schedules have passed; return how many runs are to be made."""
    for _ in range(sessions):
        session = client.sessions.create(user_id="ada")
        made = client.schedules.create(session, "hi", cron="0 * * * *", missed=Missed.ALL)
        set_back(client._executor.database, made.id, hours=hours - 1)
    return sessions * hours


def kill_some(store: Database, url: str, chance: random.Random) -> int:
    """Let two processes make some runs, and kill them; return how many were killed."""
    program = [sys.executable, "-m", "tests.integration.making_runs", url]
    made = [subprocess.Popen(program, stdout=subprocess.PIPE) for _ in range(2)]
    for one in made:
        assert one.stdout is not None
        assert one.stdout.readline()
        await_runs(store, chance.randint(1, 200))
        one.kill()
        one.communicate()
    return len(made)


def await_runs(store: Database, count: int) -> None:
    """Wait until so many more are made, or all."""
    enough = made_so_far(store) + count
    assert wait_until(lambda: made_so_far(store) >= enough or not behind(store), timeout=SOON)


def made_so_far(store: Database) -> int:
    with store.begin() as conn:
        return conn.scalar(select(func.sum(schedules.c.runs))) or 0


def behind(store: Database) -> int:
    with store.begin() as conn:
        late = schedules.c.next_at <= datetime.now(UTC)
        return conn.scalar(select(func.count()).where(late).select_from(schedules)) or 0
