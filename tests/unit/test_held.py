"""What a process may still do with the claims that it holds."""

import asyncio
from dataclasses import replace
from math import inf

from tests.claims import a_claim
from turnmill_worker.layers import clock
from turnmill_worker.layers.holding import Stop
from turnmill_worker.turn.in_hand import InHand


def test_an_owner_past_its_lease_begins_nothing_new() -> None:
    async def hold() -> None:
        with InHand().holding(a_claim(lease_ends=clock.now() - 1)) as holding:
            assert not holding.may_begin()
            assert holding.stop is Stop.LEASE_LOST

    asyncio.run(hold())


def test_a_heartbeat_gives_an_owner_more_time_and_never_less() -> None:
    async def hold() -> None:
        in_hand = InHand()
        claim = a_claim(lease_ends=clock.now() - 1)
        with in_hand.holding(claim) as holding:
            in_hand.extended([(claim.turn_id, 1)], until=clock.now() + 60)
            in_hand.extended([(claim.turn_id, 1)], until=clock.now() + 30)
            assert holding.may_begin()
            assert holding.lease_ends > clock.now() + 50

    asyncio.run(hold())


def test_a_store_of_one_process_leaves_the_lease_open() -> None:
    async def hold() -> None:
        with InHand().holding(a_claim(lease_ends=inf)) as holding:
            assert holding.may_begin()

    asyncio.run(hold())


def test_a_lease_lost_under_an_older_fence_does_not_stop_the_claim_after_it() -> None:
    async def hold() -> None:
        in_hand = InHand()
        first = a_claim(lease_ends=clock.now() + 60)
        with in_hand.holding(first):
            pairs = in_hand.pairs()
        second = replace(first, fence=first.fence + 1)
        with in_hand.holding(second) as holding:
            in_hand.lost(pairs)
            await asyncio.sleep(0)
            assert holding.may_begin()
            in_hand.lost(in_hand.pairs())
            await asyncio.sleep(0)
            assert holding.stop is Stop.LEASE_LOST

    asyncio.run(hold())


def test_once_all_calls_were_closed_none_begins_any_more() -> None:
    async def hold() -> None:
        in_hand = InHand()
        in_hand.close_all(Stop.DRAINING)
        with in_hand.holding(a_claim(lease_ends=inf)) as holding:
            assert not holding.may_begin()
            assert holding.stop is Stop.DRAINING

    asyncio.run(hold())
