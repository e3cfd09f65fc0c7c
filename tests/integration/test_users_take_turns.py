"""Users take turns: whoever sends little does not wait for the backlog of who sends much."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from tests import rows, steps
from turnmill.domain.ids import TurnId
from turnmill.domain.states import Lane
from turnmill.store.database import Database
from turnmill.store.records import Claim
from turnmill_worker.turn.ledger import GroupedLedger

pytestmark = pytest.mark.anyio


@pytest.fixture
async def ledger(store: Database) -> AsyncIterator[GroupedLedger]:
    made = GroupedLedger(store, owner="one", lease=steps.LEASE)
    yield made
    await asyncio.to_thread(made.stop)


def sent(store: Database, user: str, count: int, *, lane: Lane) -> list[TurnId]:
    return [
        rows.send(store, rows.start(store, user_id=user), lane=lane.value) for _ in range(count)
    ]


def users(claims: list[Claim]) -> Counter[str]:
    return Counter(one.user_id for one in claims)


async def test_a_hint_in_a_crowd_lets_whose_turn_it_is_go_first(
    store: Database, ledger: GroupedLedger
) -> None:
    many = sent(store, "ada", 40, lane=Lane.INTERACTIVE)
    few = sent(store, "bob", 5, lane=Lane.INTERACTIVE)
    taken = [await ledger.claim(hinted, crowded=True) for hinted in many[:10]]
    assert users([one for one in taken if one]) == {"ada": 5, "bob": 5}
    assert [one.turn_id for one in taken if one and one.user_id == "bob"] == few


async def test_who_had_much_lately_waits_until_another_one_had_as_much(
    store: Database, ledger: GroupedLedger
) -> None:
    many = sent(store, "ada", 40, lane=Lane.INTERACTIVE)
    for hinted in many[:12]:
        assert await ledger.claim(hinted, crowded=True)
    sent(store, "bob", 10, lane=Lane.INTERACTIVE)
    sent(store, "cleo", 1, lane=Lane.INTERACTIVE)
    ledger.crowds._rests_until[Lane.INTERACTIVE] = 0.0  # it was alone, and is looked at again
    taken = [await ledger.claim(hinted, crowded=True) for hinted in many[12:24]]
    whose = [one.user_id for one in taken if one]
    assert sorted(whose[:11]) == ["bob"] * 10 + ["cleo"]
    assert whose[11] == "ada"


async def test_hints_of_one_group_are_shared_by_the_users_who_wait(
    store: Database, ledger: GroupedLedger
) -> None:
    many = sent(store, "ada", 20, lane=Lane.INTERACTIVE)
    sent(store, "bob", 20, lane=Lane.INTERACTIVE)
    ledger.crowds.note_queue(Lane.INTERACTIVE)
    found = await asyncio.gather(*(ledger.claim(one) for one in many))
    taken = [one for one in found if one is not None]
    assert len(taken) == len({one.turn_id for one in taken}) == 20
    assert users(taken)["bob"] >= 9


async def test_of_a_users_own_turns_the_oldest_go_first_whichever_hints_name(
    store: Database, ledger: GroupedLedger
) -> None:
    many = sent(store, "ada", 10, lane=Lane.INTERACTIVE)
    sent(store, "bob", 2, lane=Lane.INTERACTIVE)
    taken = [await ledger.claim(hinted, crowded=True) for hinted in many[6:10]]
    assert users([one for one in taken if one]) == {"ada": 2, "bob": 2}
    assert [one.turn_id for one in taken if one and one.user_id == "ada"] == many[:2]


async def test_without_a_crowd_a_hint_takes_what_it_names(
    store: Database, ledger: GroupedLedger
) -> None:
    sent(store, "bob", 5, lane=Lane.INTERACTIVE)
    many = sent(store, "ada", 5, lane=Lane.INTERACTIVE)
    found = await asyncio.gather(*(ledger.claim(one) for one in many))
    assert [one and one.turn_id for one in found] == many


async def test_of_a_user_who_is_alone_hints_take_what_they_name(
    store: Database, ledger: GroupedLedger
) -> None:
    many = sent(store, "ada", 30, lane=Lane.INTERACTIVE)
    for hinted in many[10:20]:
        claim = await ledger.claim(hinted, crowded=True)
        assert claim is not None
        assert claim.turn_id == hinted


async def test_a_late_hint_in_a_crowd_takes_the_turn_of_whoever_is_next(
    store: Database, ledger: GroupedLedger
) -> None:
    many = sent(store, "ada", 10, lane=Lane.INTERACTIVE)
    gone, *few = sent(store, "bob", 3, lane=Lane.INTERACTIVE)
    steps.take_one(store, gone)
    hinted = (many[0], gone, many[1], gone)
    taken = [await ledger.claim(one, crowded=True) for one in hinted]
    assert [one and one.user_id for one in taken] == ["ada", "bob", "ada", "bob"]
    assert [one.turn_id for one in taken if one and one.user_id == "bob"] == few


@pytest.mark.parametrize("lane", [Lane.INTERACTIVE, Lane.BULK])
async def test_a_lane_with_more_than_there_is_room_for_is_shared(
    store: Database, ledger: GroupedLedger, lane: Lane
) -> None:
    sent(store, "ada", 60, lane=lane)
    assert users(await ledger.claim_due(lane, limit=10)) == {"ada": 10}
    sent(store, "bob", 12, lane=lane)
    sent(store, "cleo", 2, lane=lane)
    second = users(await ledger.claim_due(lane, limit=12))
    assert second == {"bob": 10, "cleo": 2}
    third = users(await ledger.claim_due(lane, limit=12))
    assert third["bob"] == 2
    rest = users(await ledger.claim_due(lane, limit=100))
    assert rest.total() == 60 + 12 + 2 - 10 - 12 - 12


async def test_two_workers_that_choose_the_same_ones_leave_no_room_unused(
    store: Database, ledger: GroupedLedger
) -> None:
    sent(store, "ada", 200, lane=Lane.BULK)
    sent(store, "bob", 20, lane=Lane.BULK)
    other = GroupedLedger(store, owner="two", lease=steps.LEASE)
    try:
        for one in (ledger, other):
            assert len(await one.claim_due(Lane.BULK, limit=5)) == 5
        for _ in range(5):
            found = await asyncio.gather(
                ledger.claim_due(Lane.BULK, limit=10), other.claim_due(Lane.BULK, limit=10)
            )
            assert [len(one) for one in found] == [10, 10]
    finally:
        await asyncio.to_thread(other.stop)
