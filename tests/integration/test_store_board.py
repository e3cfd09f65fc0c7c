"""What operators look at agrees with what the store is, and acts are done once (Postgres)."""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Event
from typing import Any

from sqlalchemy import event

from tests import rows, steps
from turnmill import wire
from turnmill.domain.ids import TurnId
from turnmill.domain.states import Lane, TurnState
from turnmill.new_ids import new_id
from turnmill.store.analytics import usage
from turnmill.store.board import acts, overview, spending, waiting
from turnmill.store.board.acts import Meant, Verb
from turnmill.store.board.looking import look
from turnmill.store.database import Database
from turnmill.store.nouns import turns
from turnmill.store.nouns.lanes import loads
from turnmill.store.nouns.load import Loads
from turnmill.store.schema_name import execute
from turnmill.store.upkeep import jobs

SOON = timedelta(seconds=20)


def spent(store: Database) -> list[tuple[str, int, Decimal, int]]:
    with look(store, within=SOON) as (conn, now):
        found = spending.spent(conn, now=now)
    return [(one.model, one.today_turns, one.today_usd, one.unpriced_today) for one in found]


def ended(store: Database, model: str) -> None:
    """Let a turn end that was tried twice, once at a known price, and one at an unknown one."""
    session = rows.start(store, model=model)
    turn = rows.send(store, session)
    rows.run(store, turn, TurnState.RETRYING, tokens=(7, 0, 0), cost=Decimal("0.5"))
    rows.run(store, turn, tokens=(100, 50, 20), cost=Decimal("0.25"))
    rows.run(store, rows.send(store, session), TurnState.FAILED, tokens=(1, 1, 0), cost=None)


def test_what_was_spent_is_what_the_report_says_before_and_after_it_is_rolled_up(
    store: Database,
) -> None:
    ended(store, "a")
    expected = [("a", 2, Decimal("0.75"), 1)]
    assert spent(store) == expected
    today = datetime.now(UTC).date()
    with store.begin() as conn:
        usage.roll_up(conn)
        assert jobs.take_slot(conn, wire.ROLL_UP_USAGE, datetime.now(UTC))
    with store.begin() as conn:
        (line,) = usage.report(conn, first=today, last=today)
    assert (line.turns, line.cost_usd, line.unpriced_attempts) == (2, Decimal("0.75"), 1)
    assert spent(store) == expected
    ended(store, "b")
    assert sorted(spent(store)) == [*expected, ("b", 2, Decimal("0.75"), 1)]


def test_an_act_means_what_was_so_at_its_moment_and_does_each_turn_once(store: Database) -> None:
    first = rows.send(store, rows.start(store))
    rows.run(store, first, TurnState.DEAD)
    with look(store, within=SOON) as (_, now):
        meant = Meant(verb=Verb.RETRY, upto=now)
    later = rows.send(store, rows.start(store))
    rows.run(store, later, TurnState.DEAD)
    with look(store, within=SOON) as (conn, _):
        assert acts.choose(conn, meant) == [first]
        assert acts.preview(conn, meant).turns == 1
    for turn, happens in ((first, True), (first, False), (later, False)):
        with store.begin() as conn:
            done = turns.retry_once(conn, turn, new_id=TurnId(new_id()), upto=meant.upto)
        assert (done is not None) is happens
    rows.run(store, first, TurnState.DEAD)  # it died again, after the preview
    with store.begin() as conn:
        assert turns.retry_once(conn, first, new_id=TurnId(new_id()), upto=meant.upto) is None


#: What the board says of a moment, and what plain SQL says of the same one.
_COUNTED = {
    "open": "finished_at IS NULL",
    "running": "state = 'running'",
    "dead": "state = 'dead'",
    "failed": "state = 'failed'",
}


#: What becomes of a turn; None: it waits.
ENDS = (
    *(None, TurnState.RUNNING, TurnState.SUCCEEDED),
    *(TurnState.DEAD, TurnState.FAILED, TurnState.RETRYING),
)


def test_numbers_are_those_of_the_store_at_any_moment_while_turns_run(store: Database) -> None:
    over = Event()
    with ThreadPoolExecutor(4) as pool:
        busy = [pool.submit(keep_busy, store, over, seed) for seed in range(4)]
        moments: set[tuple[tuple[str, int], ...]] = set()
        try:
            while len(moments) < 40:  # of which none is like another: they move meanwhile
                told, plain = numbers(store)
                assert told == plain
                moments.add(tuple(told.items()))
        finally:
            over.set()
        assert all(one.result(timeout=60) for one in busy)


def keep_busy(store: Database, over: Event, seed: int) -> int:
    """Send, run, fail and cancel turns until it is over; return how many."""
    dice, count = random.Random(seed), 0
    while not over.is_set():
        count += 1
        session = rows.start(store)
        first, _ = (rows.send(store, session) for _ in range(2))
        end = dice.choice(ENDS)
        if end is TurnState.RUNNING:
            steps.take_one(store, first)
        elif end is not None:
            rows.run(store, first, end)
    return count


def numbers(store: Database) -> tuple[dict[str, int], dict[str, int]]:
    """Return what the board counts at a moment, and what SQL counts then."""
    with look(store, within=SOON) as (conn, _):
        lanes, groups = loads(conn), waiting.groups(conn)
        ended = {one.state: one.turns for one in overview.ended(conn)}
        board = {
            "open": sum(one.turns for one in groups),
            "running": sum(one.running for one in lanes),
            "dead": ended.get("dead", 0),
            "failed": ended.get("failed", 0),
        }
        held = sum(one.turns for one in overview.holders(conn))
        waits = sum(one.due + one.later + one.running + one.behind for one in lanes)
        assert (held, waits) == (board["running"], board["open"])
        sql = "SELECT count(*) FROM turnmill.turns WHERE "
        plain = {
            name: int(execute(conn, sql + counted).scalar_one())
            for name, counted in _COUNTED.items()
        }
    return board, plain


def test_who_works_is_found_by_the_index_of_when_turns_ended(store: Database) -> None:
    asked: list[tuple[str, Any]] = []
    with store.begin() as conn:
        event.listen(conn, "before_cursor_execute", lambda *said: asked.append(said[2:4]))
        found = Loads(conn)
        assert found.rate(Lane.INTERACTIVE) is None
        assert not found.is_worked_on(Lane.INTERACTIVE, since=datetime.now(UTC))
        by_time = [one for one in asked if "finished_at >=" in one[0]]
        execute(conn, "SET LOCAL enable_seqscan = off")
        plans = [
            str(conn.exec_driver_sql(f"EXPLAIN {statement}", values).all())
            for statement, values in by_time
        ]
    assert len(plans) >= 2
    assert [plan for plan in plans if "ix_turns_finished_at" not in plan] == []
