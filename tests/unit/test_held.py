"""What a process may still do with the claims that it holds."""

import asyncio
from dataclasses import replace
from math import inf

from tests.claims import a_claim
from turnmill_worker.layers import clock
from turnmill_worker.layers.holding import Stop
from turnmill_worker.providers import calls
from turnmill_worker.turn.in_hand import InHand, end_of


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


def test_while_a_step_is_written_its_turn_counts_as_lost_under_neither_of_its_fences() -> None:
    async def hold() -> None:
        in_hand = InHand()
        claim = a_claim(lease_ends=clock.now() + 60)
        with in_hand.holding(claim) as holding:
            holding.advancing = True
            in_hand.lost(in_hand.pairs())  # the row stands under the next fence already
            await asyncio.sleep(0)
            holding.claim, holding.advancing = replace(claim, fence=claim.fence + 1), False
            assert holding.may_begin()
            in_hand.lost([(claim.turn_id, claim.fence)])
            await asyncio.sleep(0)
            assert holding.may_begin()

    asyncio.run(hold())


def test_who_wants_a_turn_to_end_while_a_step_is_written_is_heard() -> None:
    async def hold(ahead: int) -> Stop | None:
        in_hand = InHand()
        claim = a_claim(lease_ends=clock.now() + 60)
        with in_hand.holding(claim) as holding:
            holding.advancing = True
            in_hand.cancelled([(claim.turn_id, claim.fence + ahead)])
            await asyncio.sleep(0)
            return holding.stop

    assert [asyncio.run(hold(ahead)) for ahead in (0, 1, 2)] == [
        Stop.CANCELLED,
        Stop.CANCELLED,
        None,
    ]


def test_a_step_that_takes_long_to_write_is_not_dropped_by_who_wants_us_to_end() -> None:
    async def hold() -> None:
        in_hand, written = InHand(), asyncio.Event()
        with in_hand.holding(a_claim()) as holding:
            work = calls.Call(written.wait())
            waiting = asyncio.create_task(end_of(work, holding, accepting=lambda: True))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.sleep(0)
            assert (holding.stop, work.over) == (Stop.REVOKED, False)
            written.set()
            await waiting
            assert work.value() is True

    asyncio.run(hold())
