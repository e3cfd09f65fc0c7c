"""A lane and its users: who has something due, and what is served before whom."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from tests import rows, steps
from turnmill.domain.ids import TurnId
from turnmill.domain.states import Lane
from turnmill.store.database import Database
from turnmill.store.line import pauses
from turnmill.store.line.sharing import Ahead, ahead_of, due_by_user
from turnmill.store.schema.tables import sessions as session_rows
from turnmill_worker.turn.ledger import GroupedLedger

pytestmark = pytest.mark.usefixtures("sound")


def sent(store: Database, user: str, count: int = 1, **options: Any) -> list[TurnId]:
    """Send turns of a user, each in a session of its own."""
    provider = options.pop("provider", "mock")
    return [
        rows.send(store, rows.start(store, user_id=user, provider=provider), **options)
        for _ in range(count)
    ]


def users(store: Database, *, after: str = "", served: tuple[str, ...] = (), most: int = 9) -> str:
    with store.begin() as conn:
        found = due_by_user(
            conn, Lane.INTERACTIVE, after=after, served=served, users=most, heads=2 * most
        )
    return " ".join(dict.fromkeys(one.user_id for one in found))


def test_users_come_one_after_the_other_from_behind_the_last_one_on(store: Database) -> None:
    for user in ("ada", "bob", "cleo"):
        sent(store, user, 3)
    assert users(store) == "ada bob cleo"
    assert users(store, after="ada") == "bob cleo ada"
    assert users(store, after="bob", served=("ada",)) == "cleo bob"
    assert users(store, after="zoe", most=2) == "ada bob"


def test_of_each_user_the_oldest_come_and_as_many_of_all_as_are_wanted(store: Database) -> None:
    many, few = sent(store, "ada", 20), sent(store, "bob", 2)
    with store.begin() as conn:
        found = due_by_user(conn, Lane.INTERACTIVE, after="", served=(), users=6, heads=12)
    assert [one.turn_id for one in found if one.user_id == "bob"] == few
    assert [one.turn_id for one in found if one.user_id == "ada"] == many[:6]


def test_what_is_paused_running_later_or_of_another_lane_is_not_due(store: Database) -> None:
    sent(store, "ada", deliver_at=datetime.now(UTC) + timedelta(hours=1))
    sent(store, "bob", provider="other")
    sent(store, "cleo", lane="bulk")
    steps.take_one(store, sent(store, "dan")[0])
    sent(store, "eve")
    with store.begin() as conn:
        pauses.pause(conn, kind="provider", name="other")
    assert users(store) == "eve"


def test_who_has_the_oldest_head_in_the_future_has_nothing_due(store: Database) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    for user in ("ada", "bob"):
        sent(store, user, deliver_at=later)
    sent(store, "bob")
    assert users(store) == "bob"


def test_of_those_who_are_asked_for_each_has_something_due(store: Database) -> None:
    for user in ("ada", "bob"):
        sent(store, user, deliver_at=datetime.now(UTC) + timedelta(hours=1))
    sent(store, "cleo")
    assert users(store, most=1) == "cleo"


def ahead(store: Database, user: str, turn: TurnId) -> Ahead:
    with store.begin() as conn:
        due_at = conn.scalar(
            select(session_rows.c.head_due_at).where(session_rows.c.head_turn_id == turn)
        )
        assert due_at is not None
        return ahead_of(conn, Lane.INTERACTIVE, user=user, due_at=due_at, users=9, most=100)


def test_a_long_backlog_of_somebody_else_is_hardly_ahead_of_a_few_turns(store: Database) -> None:
    mine_before, many = sent(store, "bob"), sent(store, "ada", 50)
    mine = sent(store, "bob", 2)
    assert ahead(store, "bob", mine_before[0]) == Ahead(own=0, users=1, theirs=0)
    assert ahead(store, "bob", mine[1]) == Ahead(own=2, users=1, theirs=3)
    assert ahead(store, "ada", many[49]) == Ahead(own=49, users=1, theirs=3)


def test_not_more_is_counted_than_is_asked_for(store: Database) -> None:
    turn = sent(store, "ada", 20)[-1]
    with store.begin() as conn:
        conn.execute(
            update(session_rows)
            .where(session_rows.c.head_turn_id == turn)
            .values(head_due_at=datetime.now(UTC))
        )
        found = ahead_of(
            conn, Lane.INTERACTIVE, user="ada", due_at=datetime.now(UTC), users=9, most=7
        )
    assert found.own == 7


@pytest.mark.anyio
async def test_whoever_claims_in_a_lane_shares_it_between_its_users(store: Database) -> None:
    ledger = GroupedLedger(store, owner="one", lease=steps.LEASE)
    sent(store, "ada", 30)
    assert len(await ledger.claim_due(Lane.INTERACTIVE, limit=10)) == 10
    few = sent(store, "bob", 4)
    found = await ledger.claim_due(Lane.INTERACTIVE, limit=10)
    assert {one.turn_id for one in found if one.user_id == "bob"} == set(few)
    assert len(found) == 10
    assert len(await ledger.claim_due(Lane.INTERACTIVE, limit=50)) == 14
    await asyncio.to_thread(ledger.stop)
