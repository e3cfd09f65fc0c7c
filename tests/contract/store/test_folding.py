"""Folding is exact: whatever happens in between, figures are those that rows add up to."""

import random
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from tests import rows
from turnmill.domain.analytics.windows import SLOT, Window
from turnmill.domain.ids import TurnId
from turnmill.domain.states import TurnState
from turnmill.new_ids import new_id
from turnmill.store.analytics.figures import totals
from turnmill.store.analytics.folding import fold, recomputed
from turnmill.store.analytics.usage import roll_up
from turnmill.store.database import Database
from turnmill.store.line.removing import remove_sessions
from turnmill.store.nouns import turns
from turnmill.store.nouns.events import give_places, prune
from turnmill.store.rules.figure_lines import counted, joined
from turnmill.store.schema.rollup_tables import rollups

NOW = datetime.now(UTC)
ALL = Window(NOW - timedelta(days=9), NOW + timedelta(days=1))


class Killed(Exception):
    """Whoever folded is gone, and what it has not committed."""


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_between_folds_slots_hold_what_their_rows_add_up_to(  # noqa: C901, PLR0912, PLR0915
    store: Database, seed: int
) -> None:
    dice = random.Random(seed)
    failed: list[TurnId] = []
    ended = 0
    for _ in range(40):
        match dice.choice(("end", "end", "end", "retry", "remove", "fold", "killed", "prune")):
            case "end":
                session = rows.start(store, model=dice.choice("ab"))
                turn = rows.send(store, session)
                state = dice.choice((TurnState.SUCCEEDED, TurnState.FAILED, TurnState.DEAD))
                rows.run(store, turn, state)
                ended += 1
                if state is not TurnState.SUCCEEDED:
                    failed.append(turn)
                elif dice.random() < 0.3:
                    with store.begin() as conn:
                        remove_sessions(conn, [session])
                elif dice.random() < 0.5:  # late: it is not folded in yet
                    rows.ended_at(store, turn, NOW - dice.randrange(700) * SLOT)
            case "retry" if failed:
                turn = failed.pop(dice.randrange(len(failed)))
                with store.begin() as conn:
                    turns.retry(conn, turn, new_id=TurnId(new_id()))
                rows.run(store, turn)
            case "remove" if failed:
                turn = failed.pop(dice.randrange(len(failed)))
                with store.begin() as conn:
                    remove_sessions(conn, [turns.get(conn, turn).session_id])
            case "fold":
                store.run(give_places, limit=dice.randrange(1, 9))
                store.run(fold, limit=dice.randrange(1, 9), slots=1)
            case "killed":
                with suppress(Killed), store.begin() as conn:
                    fold(conn, limit=3, slots=1)
                    raise Killed
            case "prune":
                store.run(prune, limit=dice.randrange(1, 20))
            case _:
                pass  # there is nothing to retry, or to remove
    with store.begin() as conn:
        roll_up(conn)
        stored = [counted(row) for row in conn.execute(select(rollups)).mappings()]
        again = [
            line
            for slot in sorted({one.key.slot for one in stored})
            for line in recomputed(conn, slot)
        ]
        (sums,) = totals(conn, ALL)
    assert joined(stored) == again
    assert sums.turns == ended
