"""What was paid for and comes back to nobody is booked all the same: bills, figures, budgets."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import func, select

from tests.native import submit
from tests.native_at_openai import double as double
from tests.native_at_openai import polled
from turnmill import Client, Settings
from turnmill.domain.ids import BatchId
from turnmill.store.analytics.folding import fold
from turnmill.store.database import Database
from turnmill.store.nouns import event_log
from turnmill.store.nouns.spending import Spent, spent
from turnmill.store.schema.rollup_tables import calls_gone, rollups
from turnmill.store.upkeep.invariants import violations

pytestmark = pytest.mark.anyio


def billed(database: Database) -> Spent:
    today = datetime.now(UTC).date()
    with database.single() as conn:
        (found,) = spent(conn, provider="openai", first=today, last=today)
    return found


def reported(database: Database) -> tuple[Decimal, int]:
    """Return what reports say was spent, and how many calls that took."""
    with database.begin() as conn:
        event_log.give_places(conn)
        while fold(conn):
            pass
        c = rollups.c
        row = conn.execute(select(func.sum(c.cost_usd), func.sum(c.attempts))).one()
    return row[0], int(row[1])


async def test_lines_of_those_who_were_erased_meanwhile_are_paid_and_booked(
    database: Database, double: Any, database_url: str
) -> None:
    double.desk.takes = 3600.0
    settings = Settings(database_url=database_url)
    with Client(settings=settings) as client:
        house = client.budgets.set(limit_usd=100, period="total")
    batch = BatchId(submit(database_url, 9, provider="openai", max_cost_usd="5"))
    await polled(database, double, 0.6)
    with Client(settings=settings) as client:
        (one,) = client.turns.list(batch=client.batches.get(batch), user_id="user-2")
        client.sessions.delete(one.session_id)
        client.users.erase("user-1")  # two of the lines
    double.desk.takes = 0.0
    await polled(database, double)
    await polled(database, double, 0.3)
    bill = billed(database)
    assert len(double.desk.paid) == 9
    assert (bill.calls, bill.unpriced) == (9, 0)
    assert bill.cost_usd > 0
    assert reported(database) == (bill.cost_usd, 9)
    with Client(settings=settings) as client:
        assert client.budgets.get(period="total").spent_usd == bill.cost_usd, house
        assert client.batches.get(batch).counts.cost_usd == bill.cost_usd
    with database.single() as conn:
        assert conn.scalar(select(func.count()).select_from(calls_gone)) == 0
        assert violations(conn) == []
