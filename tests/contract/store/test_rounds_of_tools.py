"""How many rounds turns take that do not loop, whichever tool it is that another one loops by."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import insert, update

from tests import rows
from turnmill.domain.analytics.windows import Window
from turnmill.store.analytics.asking import answer
from turnmill.store.analytics.ended_turns import Scope, Seen
from turnmill.store.analytics.evidence_of_rounds import tool_uses
from turnmill.store.database import Database
from turnmill.store.schema.step_tables import tool_calls
from turnmill.store.schema.tables import turns

NOW = datetime.now(UTC)
DAY = Scope(window=Window(NOW - timedelta(days=1), NOW + timedelta(days=1)))


def turn_with(store: Database, steps: int, **calls: int) -> None:
    """Let a turn have taken so many steps, with so many calls of each tool."""
    session = rows.start(store)
    turn = rows.send(store, session)
    rows.run(store, turn)
    names = [name for name, many in calls.items() for _ in range(many)]
    with store.begin() as conn:
        conn.execute(update(turns).where(turns.c.id == turn).values(step=steps))
        conn.execute(
            insert(tool_calls),
            [
                {
                    "turn_id": turn,
                    "position": n,
                    "session_id": session,
                    "step": 1,
                    "call_id": str(n),
                    "tool": name,
                    "effects": "none",
                    "state": "done",
                }
                for n, name in enumerate(names)
            ],
        )


def test_rounds_of_a_turn_that_loops_by_another_tool_are_none_that_are_needed(
    store: Database,
) -> None:
    turn_with(store, 30, search=12, save=1)  # a loop
    turn_with(store, 3, search=2)
    turn_with(store, 6, save=1, send=7)
    with store.begin() as conn:
        found = {one.tool: one for one in answer(conn, tool_uses(Seen.of(DAY)))}
    assert {name: one.most_rounds for name, one in found.items()} == {
        "search": 3,
        "save": 6,
        "send": 6,
    }
    assert (found["search"].turns, found["search"].looping, found["search"].calls) == (2, 1, 12)
    assert (found["save"].turns, found["save"].looping) == (2, 0)
