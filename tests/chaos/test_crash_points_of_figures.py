"""Whoever folds may die at any point, and be killed again: each turn counts once."""

import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from tests import rows
from tests.chaos.system import PATIENCE, ROOT, Servers, System
from turnmill.domain.analytics.windows import Window
from turnmill.domain.ids import TurnId
from turnmill.domain.states import TurnState
from turnmill.new_ids import new_id
from turnmill.store.analytics.figures import totals
from turnmill.store.analytics.usage import roll_up
from turnmill.store.database import Database
from turnmill.store.line.removing import remove_sessions
from turnmill.store.nouns import turns
from turnmill.store.schema.rollup_tables import rollup_state
from turnmill.store.upkeep.invariants import violations

NOW = datetime.now(UTC)
WINDOW = Window(NOW - timedelta(days=1), NOW + timedelta(days=1))


def folder_falls(system: System, point: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.faulty_folder", point],
        env=system.variables,
        cwd=ROOT,
        timeout=PATIENCE.total_seconds(),
        check=False,
    )
    assert done.returncode == -signal.SIGKILL


def counted(store: Database) -> tuple[int, int]:
    """Return how many turns figures have, and how far events are in."""
    with store.begin() as conn:
        place = conn.scalars(select(rollup_state.c.place)).one_or_none()
        (sums,) = totals(conn, WINDOW)
        assert violations(conn) == []
    return sums.turns, -1 if place is None else place


def test_20_whoever_folds_and_dies_has_counted_whole_pages_and_none_of_them_twice(
    servers: Servers,
) -> None:
    with System(servers) as system:
        store = Database(system.database_url)
        roll_up_once(store)
        failed = [ended(store, TurnState.FAILED if n % 3 else TurnState.DEAD) for n in range(60)]
        folder_falls(system, "uncommitted")
        assert counted(store)[0] == 0
        folder_falls(system, "between")
        turns_in, place = counted(store)
        assert 0 < turns_in < 60
        for turn in failed[:10]:  # some are in already, and their quarter is marked
            with store.begin() as conn:
                turns.retry(conn, turn, new_id=TurnId(new_id()))
            rows.run(store, turn)
        with store.begin() as conn:
            remove_sessions(conn, [turns.get(conn, one).session_id for one in failed[-10:]])
        folder_falls(system, "uncommitted")
        assert counted(store)[1] == place
        roll_up_once(store)
        assert counted(store)[0] == 60
        with store.begin() as conn:
            (sums,) = totals(conn, WINDOW)
        assert (sums.succeeded, sums.failed + sums.dead, sums.attempts) == (10, 50, 70)
        store.close()


def roll_up_once(store: Database) -> None:
    with store.begin() as conn:
        roll_up(conn)


def ended(store: Database, state: TurnState) -> TurnId:
    turn = rows.send(store, rows.start(store))
    rows.run(store, turn, state)
    return turn
