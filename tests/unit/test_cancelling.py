"""A cancel reaches the call that it is meant for, whenever it was told of, and no other."""

import asyncio

import pytest

from tests import rows, steps
from turnmill.store.database import Database
from turnmill.store.records import Claim
from turnmill_worker.layers.holding import Holding, Stop
from turnmill_worker.process.cancelling import Cancelling
from turnmill_worker.turn.in_hand import InHand

pytestmark = pytest.mark.anyio


def claimed(store: Database) -> Claim:
    return steps.take_one(store, steps.send(store, rows.start(store)).turn_id)


async def stopped(holding: Holding) -> bool:
    await asyncio.sleep(0)  # it is told on the loop
    return holding.stop is Stop.CANCELLED


async def test_a_turn_that_was_named_before_it_was_in_hand_is_stopped_when_it_is(
    store: Database,
) -> None:
    claim, in_hand = claimed(store), InHand()
    cancelling = Cancelling(store, in_hand)
    steps.cancel(store, claim.turn_id)
    cancelling.told([claim.turn_id])
    with in_hand.holding(claim) as holding:
        assert not await stopped(holding)
        cancelling.look()
        assert await stopped(holding)


async def test_whoever_was_deaf_finds_what_was_cancelled_meanwhile(store: Database) -> None:
    claim, other, in_hand = claimed(store), claimed(store), InHand()
    cancelling = Cancelling(store, in_hand)
    steps.cancel(store, claim.turn_id)
    with in_hand.holding(claim) as holding, in_hand.holding(other) as kept:
        cancelling.look()
        assert not await stopped(holding)
        cancelling.look_at_all()
        assert await stopped(holding)
        assert not await stopped(kept)


async def test_a_notice_of_a_turn_that_nobody_has_cancelled_stops_nothing(store: Database) -> None:
    claim, in_hand = claimed(store), InHand()
    with in_hand.holding(claim) as holding:
        Cancelling(store, in_hand).told([claim.turn_id])
        assert not await stopped(holding)
