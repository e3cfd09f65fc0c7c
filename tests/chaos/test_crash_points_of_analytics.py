"""Whoever rates a turn may die at any point, and so may workers that ask turns of a trial again."""

import asyncio
import signal
import subprocess
import sys
from datetime import timedelta
from uuid import UUID

import pytest

from tests import rows
from tests.chaos.books import Books
from tests.chaos.system import PATIENCE, ROOT, Servers, System, kill, until
from turnmill.domain.analytics.judging import TrialState
from turnmill.domain.ids import TurnId
from turnmill.store.database import Database
from turnmill.store.upkeep.invariants import violations
from turnmill_worker.analytics.trials import Tending
from turnmill_worker.stack.process import Child

LEASE = timedelta(seconds=1.5)
ASKED = 60


def rater_falls(system: System, point: str, turn: TurnId) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.faulty_rater", point, str(turn)],
        env=system.variables,
        cwd=ROOT,
        timeout=PATIENCE.total_seconds(),
        check=False,
    )
    assert done.returncode == -signal.SIGKILL


@pytest.mark.long
def test_22_whoever_dies_while_he_rates_a_turn_has_said_nothing_or_all_of_it_once(
    servers: Servers,
) -> None:
    told = "SELECT score, changes FROM turnmill.feedback"
    with System(servers) as system:
        store = Database(system.database_url)
        turn = rows.send(store, rows.start(store))
        rows.run(store, turn)
        rater_falls(system, "before_commit", turn)
        assert system.rows(told) == []
        rater_falls(system, "before_response", turn)
        assert system.rows(told) == [(-0.5, 0)]
        with system.client() as client:  # who was not told says it again
            again = client.turns.feedback(turn, -0.5, "too long")
        assert (again.score, again.comment, again.changes) == (-0.5, "too long", 0)
        assert system.rows(told) == [(-0.5, 0)]
        with store.begin() as conn:
            assert violations(conn) == []
        store.close()


def tended(system: System, trial: UUID) -> bool:
    """Take the trial to its next step, as beat has it done; return whether it has ended."""
    database = Database(system.database_url)
    asyncio.run(Tending(database).run(within=timedelta(seconds=5)))
    database.close()
    with system.client() as client:
        return client.trials.get(trial).is_over


def slow_worker(system: System) -> Child:
    return system.launch_worker(concurrency=10, TURNMILL_MOCK_LATENCY="0.3")


@pytest.mark.long
def test_23_a_trial_whose_workers_are_killed_asks_each_turn_once_and_ends(servers: Servers) -> None:
    with System(servers, lease=LEASE) as system:
        workers = [slow_worker(system) for _ in range(2)]
        system.await_ready(*workers)
        with system.client() as client:
            sessions = [client.sessions.create(user_id=f"user-{n}") for n in range(ASKED)]
            for turn in client.send_many([(one.id, "hello") for one in sessions]):
                turn.result(timeout=PATIENCE)
            trial = client.trials.start("mock/other", sample=100, judge="exact", mode="live")
            for share in (0.2, 0.6):
                until(lambda share=share: system.count_calls() > ASKED * (1 + share))  # type: ignore[misc]
                kill(workers.pop(0))
                workers.append(slow_worker(system))
            until(lambda: tended(system, trial.id), within=3 * PATIENCE)
            assert client.trials.get(trial.id).state is TrialState.DONE
            shown = client.trials.summary(trial.id)
        assert (shown.asked, shown.answered, shown.judged) == (ASKED, ASKED, ASKED)
        books = Books.of(system)
        assert [turn.state for turn in books.turns] == ["succeeded"] * 2 * ASKED
        assert {len(turn.replies or ()) for turn in books.turns} == {1}
        database = Database(system.database_url)
        with database.begin() as conn:
            assert violations(conn, drained=True) == []
        database.close()
