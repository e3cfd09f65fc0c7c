"""Two who put right what one claim, or one batch, has left reserved: it is booked once."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TypeVar

import pytest
from sqlalchemy import Connection, update

from tests import steps
from tests.budgeting import ask, bound, one, sums
from tests.crowd import is_blocked
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.line.charges import charge_orphans, charge_truly
from turnmill.store.records import Claim
from turnmill.store.schema.budget_tables import charges
from turnmill_worker.stack.process import wait_until

T = TypeVar("T")

_SOON = timedelta(seconds=20)
_LEFT, _OTHERS = Decimal("0.4"), Decimal(3)


@pytest.fixture
def left(database: Database) -> Claim:
    """Return a claim that has reserved something, and has ended without a word of it."""
    bound(database, "10")
    ask(database, one(database), _OTHERS)
    claim = one(database)
    ask(database, claim, _LEFT)
    steps.end(database, claim)
    change(database, claim, at=datetime.now(UTC) - timedelta(hours=1))
    return claim


def change(database: Database, claim: Claim, **values: object) -> None:
    with database.begin() as conn:
        mine = update(charges).where(charges.c.turn_id == claim.turn_id)
        conn.execute(mine.values(**values))


def in_the_middle(database: Database, other: Callable[[Connection], T]) -> T:
    """Have upkeep charge what was left, and somebody else be at it before that is committed."""

    def run() -> T:
        with database.begin() as conn:
            return other(conn)

    with ThreadPoolExecutor(1) as pool:
        with database.begin() as conn:
            assert charge_orphans(conn) == 1
            found: Future[T] = pool.submit(run)
            assert wait_until(lambda: found.done() or is_blocked(database), timeout=_SOON)
        return found.result(timeout=60)


def test_what_a_claim_has_left_is_charged_by_one_of_two_upkeeps(
    database: Database, left: Claim
) -> None:
    assert in_the_middle(database, charge_orphans) == 0
    assert sums(database) == (_LEFT, _LEFT, _OTHERS)


def test_what_a_batch_has_left_is_given_back_by_one_of_two_upkeeps(
    database: Database, left: Claim
) -> None:
    change(database, left, turn_id=new_id(), fence=0)
    assert in_the_middle(database, charge_orphans) == 0
    assert sums(database) == (0, 0, _OTHERS)


def test_what_a_call_has_cost_takes_the_place_of_what_upkeep_charges_for_it_now(
    database: Database, left: Claim
) -> None:
    cost = Decimal("0.1")
    in_the_middle(database, lambda conn: charge_truly(conn, left.turn_id, left.fence, cost))
    assert sums(database) == (cost, 0, _OTHERS)
