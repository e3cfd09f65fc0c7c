"""What operators look at agrees with what the store is, and acts are done once (Postgres)."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tests import rows
from turnmill import wire
from turnmill.domain.ids import TurnId
from turnmill.domain.states import TurnState
from turnmill.new_ids import new_id
from turnmill.store.board import acts, spending
from turnmill.store.board.acts import Meant, Verb
from turnmill.store.board.looking import look
from turnmill.store.database import Database
from turnmill.store.nouns import usage
from turnmill.store.upkeep import jobs

SOON = timedelta(seconds=20)


@pytest.fixture
def store(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


def spent(store: Database) -> list[tuple[str, int, Decimal, int]]:
    with look(store, within=SOON) as (conn, now):
        found = spending.spent(conn, now=now)
    return [(one.model, one.today_turns, one.today_usd, one.unpriced) for one in found]


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
        usage.roll_up(conn, today)
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
            done = acts.retry_once(conn, turn, new_id=TurnId(new_id()), upto=meant.upto)
        assert (done is not None) is happens
    rows.run(store, first, TurnState.DEAD)  # it died again, after the preview
    with store.begin() as conn:
        assert acts.retry_once(conn, first, new_id=TurnId(new_id()), upto=meant.upto) is None
