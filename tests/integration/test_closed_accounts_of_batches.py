"""Batches at vendors go by the accounts that turns go by: closed for one, closed for all."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from tests.native import provider_at, shard_states, states, submit
from tests.native_at_openai import double as double
from tests.native_at_openai import polled
from turnmill import Client
from turnmill.domain.ids import BatchId
from turnmill.domain.states import EventKind
from turnmill.show.why_view import obstacles
from turnmill.store.database import Database
from turnmill.store.nouns.accounts import AccountKey, close, list_closed
from turnmill.store.schema.event_tables import events
from turnmill.store.schema.tables import batches
from turnmill.store.upkeep.invariants import violations
from turnmill.verbs.batch_words import said_of

pytestmark = pytest.mark.anyio


def kinds_told(database: Database) -> set[str]:
    with database.single() as conn:
        return set(conn.scalars(select(events.c.kind)))


def shown(database_url: str, batch: BatchId) -> str:
    """Return what is said of a batch, and of one of its turns."""
    with Client(database_url=database_url) as client:
        found = client.batches.get(batch)
        (turn, *_) = client.turns.list(batch=found)
        return "\n".join([*said_of(found.counts), *obstacles(turn.why())])


async def test_a_vendor_that_says_later_of_a_batch_is_left_alone_by_all_until_then(
    database: Database, double: Any, database_url: str
) -> None:
    batch = submit(database_url, 3, provider="openai")
    double.meet("rate_limited")  # with a Retry-After of 7 seconds
    await polled(database, double, 0.5)
    with database.single() as conn:
        (closed,) = list_closed(conn)
    assert (closed.kind, closed.model, closed.permanent) == ("account", "gpt-4.1-mini", False)
    assert len(double.calls) == 1
    assert shown(database_url, batch).count("closed until") == 2
    with Client(database_url=database_url) as client:
        assert client.accounts.open(provider="openai") == 1
    await polled(database, double)
    assert states(database, batch) == {"succeeded": 3}
    with database.single() as conn:
        assert list_closed(conn) == []


async def test_a_key_that_is_revoked_while_a_batch_is_looked_after_is_told_everywhere(
    database: Database, double: Any, database_url: str
) -> None:
    double.desk.takes = 3600.0
    batch = submit(database_url, 3, provider="openai")
    await polled(database, double, 0.4)
    double.always = "bad_key"
    await polled(database, double, 1.0)
    before = len(double.calls)
    double.always = ""
    await polled(database, double, 0.5)
    assert len(double.calls) == before  # nobody asks before its time
    with Client(database_url=database_url) as client:
        found = client.batches.get(batch)
        assert (found.record.state, found.record.paused_because) == ("paused", "invalid_api_key")
        assert found.counts.held_by == "openai: invalid_api_key"
        assert EventKind.ACCOUNT_CLOSED in kinds_told(database)  # others where somebody asked
        assert client.accounts.list()[0].permanent
        assert "turnmill accounts open openai" in shown(database_url, batch)
        assert client.accounts.open(provider="openai") == 1
        found.resume()
        double.desk.takes = 0.0
        await polled(database, double)
        assert client.batches.get(batch).counts.states == {"succeeded": 3}
    with database.single() as conn:
        assert violations(conn) == []


async def test_no_call_about_a_batch_leaves_while_its_account_is_closed_by_a_turn(
    database: Database, double: Any, database_url: str
) -> None:
    batch = submit(database_url, 3, provider="openai")
    provider = provider_at("openai", double.base_url)
    key = AccountKey(kind="account", provider="openai", account=provider.account)
    await provider.aclose()
    with database.begin() as conn:
        close(conn, key, wait=lambda _: timedelta(seconds=1.2), code="rate_limit_exceeded")
    began = datetime.now(UTC)
    await polled(database, double, 0.5)
    assert not double.calls
    assert {one[0] for one in shard_states(database, batch)} == {"ready"}
    await polled(database, double)
    assert datetime.now(UTC) - began > timedelta(seconds=1)
    assert states(database, batch) == {"succeeded": 3}
    with database.single() as conn:
        assert list_closed(conn) == []


async def test_a_limited_batch_of_a_model_without_a_price_stops_before_anything_is_asked(
    database: Database, double: Any, database_url: str
) -> None:
    batch = submit(database_url, 3, provider="openai", model="of-nobody")
    with database.begin() as conn:
        conn.execute(update(batches).values(max_cost_usd=5))
    await polled(database, double)
    with Client(database_url=database_url) as client:
        counts = client.batches.get(batch).counts
    assert (counts.state, counts.paused_because) == ("paused", "price_unknown")
    assert states(database, batch) == {"waiting": 3}
    assert not double.calls
