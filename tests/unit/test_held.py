"""What a process may still do with the claims that it holds."""

import asyncio
from dataclasses import replace
from math import inf

from tests.claims import a_claim
from turnmill_worker.turn import clock
from turnmill_worker.turn.in_hand import Held, Stop


def test_an_owner_past_its_lease_begins_nothing_new() -> None:
    async def hold() -> None:
        with Held().holding(a_claim(lease_ends=clock.now() - 1)) as holding:
            assert not holding.may_begin()
            assert holding.stop is Stop.LEASE_LOST

    asyncio.run(hold())


def test_a_heartbeat_gives_an_owner_more_time_and_never_less() -> None:
    async def hold() -> None:
        held = Held()
        claim = a_claim(lease_ends=clock.now() - 1)
        with held.holding(claim) as holding:
            held.extended([(claim.turn_id, 1)], until=clock.now() + 60)
            held.extended([(claim.turn_id, 1)], until=clock.now() + 30)
            assert holding.may_begin()
            assert holding.lease_ends > clock.now() + 50

    asyncio.run(hold())


def test_a_store_of_one_process_leaves_the_lease_open() -> None:
    async def hold() -> None:
        with Held().holding(a_claim(lease_ends=inf)) as holding:
            assert holding.may_begin()

    asyncio.run(hold())


def test_a_lease_lost_under_an_older_fence_does_not_stop_the_claim_after_it() -> None:
    async def hold() -> None:
        held = Held()
        first = a_claim(lease_ends=clock.now() + 60)
        with held.holding(first):
            pairs = held.pairs()
        second = replace(first, fence=first.fence + 1)
        with held.holding(second) as holding:
            held.lost(pairs)
            await asyncio.sleep(0)
            assert holding.may_begin()
            held.lost(held.pairs())
            await asyncio.sleep(0)
            assert holding.stop is Stop.LEASE_LOST

    asyncio.run(hold())


def test_once_all_calls_were_closed_none_begins_any_more() -> None:
    async def hold() -> None:
        held = Held()
        held.close_all(Stop.DRAINING)
        with held.holding(a_claim(lease_ends=inf)) as holding:
            assert not holding.may_begin()
            assert holding.stop is Stop.DRAINING

    asyncio.run(hold())
