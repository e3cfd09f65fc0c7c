"""The gates right before a call: what is closed for all, what is tried by one, what has room."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from tests.unit.gates_rig import LATER, NO_MONEY, Rig, a_call, waits
from tests.waiting import async_until
from turnmill.domain.errors import (
    MaybeSent,
    Overloaded,
    RateLimited,
    Rejected,
)
from turnmill.domain.ids import TurnId
from turnmill.new_ids import new_id
from turnmill.store.schema.limit_tables import accounts
from turnmill_worker.gates.breakers import Breakers, Flight
from turnmill_worker.gates.watch import Gates
from turnmill_worker.layers.holding import Stop
from turnmill_worker.providers.boundary import Answer
from turnmill_worker.providers.port import Done, NotNow, Usage

pytestmark = pytest.mark.anyio


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_where_nothing_is_limited_or_closed_a_call_costs_no_row(rig: Rig) -> None:
    assert isinstance(await rig.ask(), Done)
    assert rig.rows.asked == 0


async def test_the_first_later_closes_the_account_for_the_model_and_no_other(rig: Rig) -> None:
    rig.answer = LATER
    assert await rig.ask() is LATER
    found = await rig.ask()
    assert isinstance(found, NotNow)
    assert found.waits_for == "account"
    assert timedelta(seconds=18) < waits(found) < timedelta(seconds=21)
    assert rig.calls == 1
    assert rig.closed() == [("account", "rate_limit_exceeded", "large")]
    assert await rig.ask(model="small") is LATER


async def test_of_many_that_wait_no_two_come_back_at_once(rig: Rig) -> None:
    rig.answer = LATER
    await rig.ask()
    found = [waits(await rig.ask()) for _ in range(5)]
    assert len(set(found)) == 5
    assert found == sorted(found)


async def test_one_refusal_without_a_time_closes_nothing_and_three_in_a_row_do(rig: Rig) -> None:
    rig.answer = RateLimited("rate_limit_exceeded")
    await rig.ask()
    rig.answer, refusal = Done(text="hi", usage=Usage()), rig.answer
    await rig.ask()
    rig.answer = refusal
    await rig.ask()
    await rig.ask()
    assert rig.closed() == []
    await rig.ask()
    assert rig.closed() == [("account", "rate_limit_exceeded", "large")]


async def test_a_vendor_that_answers_most_is_left_alone_for_a_second_however_often_it_refuses(
    rig: Rig,
) -> None:
    for _ in range(4):
        rig.answer = Done(text="hi", usage=Usage())
        for _ in range(30):
            await rig.ask()
        rig.answer = Overloaded("overloaded")
        for _ in range(3):
            await rig.ask()
        assert rig.times() == [1]
        rig.let_time_come()
        rig.answer = Done(text="hi", usage=Usage())
        await rig.ask()
        assert rig.closed() == []


async def test_a_vendor_that_refuses_as_soon_as_it_is_asked_more_is_left_alone_for_longer(
    rig: Rig,
) -> None:
    found = []
    for _ in range(3):
        rig.answer = Overloaded("overloaded")
        for _ in range(3):
            await rig.ask()
        found += rig.times()
        rig.let_time_come()
        rig.answer = Done(text="hi", usage=Usage())
        await rig.ask()
    assert found == [1, 2, 3]


async def test_a_key_that_is_refused_closes_all_models_of_the_account(rig: Rig) -> None:
    rig.answer = NO_MONEY
    assert await rig.ask() is NO_MONEY
    assert isinstance(await rig.ask(model="small"), NotNow)
    assert rig.closed() == [("account", "insufficient_quota", None)]


async def test_whoever_tries_a_key_that_is_still_refused_waits_on(rig: Rig) -> None:
    rig.answer = NO_MONEY
    await rig.ask()
    rig.let_time_come()
    found = await rig.ask()
    assert isinstance(found, NotNow)
    assert rig.calls == 2
    assert isinstance(await rig.ask(), NotNow)
    assert rig.calls == 2


async def test_one_call_tries_what_is_closed_and_the_others_wait_for_that(rig: Rig) -> None:
    rig.answer = LATER
    await rig.ask()
    rig.let_time_come()
    rig.answer, rig.hangs = Done(text="hi", usage=Usage()), asyncio.Event()
    calls = [asyncio.create_task(rig.ask()) for _ in range(10)]
    await async_until(lambda: sum(one.done() for one in calls) == 9 and rig.calls == 2)
    (trying,) = (one for one in calls if not one.done())
    assert all(isinstance(one.result(), NotNow) for one in calls if one is not trying)
    rig.hangs.set()
    assert isinstance(await trying, Done)
    assert rig.closed() == []
    assert isinstance(await rig.ask(), Done)


async def test_a_call_that_is_cancelled_while_it_tries_lets_another_one_try(rig: Rig) -> None:
    rig.answer = LATER
    await rig.ask()
    rig.let_time_come()
    rig.answer, rig.hangs = Done(text="hi", usage=Usage()), asyncio.Event()
    trying = asyncio.create_task(rig.ask())
    await async_until(lambda: rig.calls == 2)
    trying.cancel()
    await asyncio.wait([trying])
    rig.hangs.set()
    for _ in range(100):
        rig.let_time_come()
        if isinstance(await rig.ask(), Done):
            return
        await asyncio.sleep(0.02)
    pytest.fail("nobody may try it any more")


async def test_what_a_user_has_done_wrong_closes_nothing(rig: Rig) -> None:
    rig.answer = Rejected("invalid_request", answered=True)
    for _ in range(30):
        assert await rig.ask() is rig.answer
    assert rig.closed() == []


async def test_ten_failures_in_a_row_of_several_turns_open_the_breaker(rig: Rig) -> None:
    rig.answer = MaybeSent("http_500")
    for _ in range(10):
        await rig.ask()
    assert rig.closed() == [("breaker", "fails", "large")]
    found = await rig.ask()
    assert isinstance(found, NotNow)
    assert found.waits_for == "breaker"


async def test_a_turn_that_fails_by_itself_opens_no_breaker(rig: Rig) -> None:
    rig.answer = MaybeSent("http_500")
    turn_id = TurnId(new_id())
    for _ in range(30):
        await rig.ask(turn_id=turn_id)
    assert rig.closed() == []


async def test_a_breaker_is_closed_by_the_first_answer(rig: Rig) -> None:
    rig.answer = MaybeSent("http_500")
    for _ in range(10):
        await rig.ask()
    rig.let_time_come()
    rig.answer = Done(text="hi", usage=Usage())
    assert isinstance(await rig.ask(), Done)
    assert rig.closed() == []


async def test_attempts_that_take_too_long_count_as_failures(rig: Rig) -> None:
    rig.hangs = asyncio.Event()
    for n in range(10):
        call = a_call()
        hanging = asyncio.create_task(rig.ask(call))
        await async_until(lambda n=n: rig.calls == n + 1)  # type: ignore[misc]
        call.holding.stop = Stop.TIMED_OUT
        hanging.cancel()
        await asyncio.wait([hanging])
    await async_until(lambda: bool(rig.closed()))
    assert rig.closed() == [("breaker", "fails", "large")]


def in_flight(breakers: Breakers, calls: int) -> list[Flight]:
    return [breakers.begin("theirs", "large") for _ in range(calls)]


def test_a_model_hangs_when_five_calls_or_more_wait_for_long_and_none_was_answered() -> None:
    now = [1000.0]
    breakers = Breakers(lambda: now[0])
    in_flight(breakers, 4)
    now[0] += 31
    assert [*breakers.hanging()] == []
    fifth = in_flight(breakers, 1)
    now[0] += 29
    assert [*breakers.hanging()] == []  # the fifth has not waited for long
    now[0] += 2
    assert [*breakers.hanging()] == [("theirs", "large")]
    fifth[0].answered()
    assert [*breakers.hanging()] == []
    late = in_flight(breakers, 5)
    now[0] += 31
    assert [*breakers.hanging()] == [("theirs", "large")]
    late[0].over()
    assert [*breakers.hanging()] == []


def test_a_model_that_takes_long_does_not_hang_before_six_times_as_long() -> None:
    now = [1000.0]
    breakers = Breakers(lambda: now[0])
    slow = in_flight(breakers, 1)
    now[0] += 80  # by which ten seconds are usual
    slow[0].answered()
    in_flight(breakers, 5)
    now[0] += 59
    assert [*breakers.hanging()] == []
    now[0] += 2
    assert [*breakers.hanging()] == [("theirs", "large")]


def test_a_model_that_answers_another_worker_is_not_said_to_hang_for_calls_of_before() -> None:
    now = [1000.0]
    breakers = Breakers(lambda: now[0])
    in_flight(breakers, 10)
    now[0] += 31
    assert [*breakers.hanging()] == [("theirs", "large")]
    breakers.works("theirs", "large")
    now[0] += 600
    assert [*breakers.hanging()] == []
    in_flight(breakers, 5)
    now[0] += 31
    assert [*breakers.hanging()] == [("theirs", "large")]  # these hang again


async def test_a_store_that_is_away_closes_the_account_here_all_the_same(rig: Rig) -> None:
    rig.answer, rig.rows.refuses = LATER, True
    assert await rig.ask() is LATER
    assert isinstance(await rig.ask(), NotNow)
    assert rig.calls == 1


async def test_no_more_calls_are_in_flight_than_are_allowed(rig: Rig) -> None:
    rig.limit(concurrent=3)
    rig.hangs = asyncio.Event()
    calls = [asyncio.create_task(rig.ask()) for _ in range(20)]
    await async_until(lambda: sum(one.done() for one in calls) == 17)
    assert rig.most == 3
    done = [one.result() for one in calls if one.done()]
    assert {one.waits_for for one in done} == {"limit"}  # type: ignore[union-attr]
    rig.hangs.set()
    await asyncio.gather(*calls)
    assert isinstance(await rig.ask(), Done)


async def test_a_provider_that_hangs_leaves_slots_to_the_others(rig: Rig) -> None:
    rig.limits.look([], ["theirs", "another"])
    rig.hangs = asyncio.Event()
    calls = [asyncio.create_task(rig.ask()) for _ in range(60)]
    await async_until(lambda: sum(one.done() for one in calls) == 30)
    assert rig.calls == 30
    others = asyncio.create_task(rig.ask(provider="another"))
    await async_until(lambda: rig.calls == 31)
    rig.hangs.set()
    await asyncio.gather(others, *calls)


async def test_a_provider_that_is_alone_may_have_all_slots(rig: Rig) -> None:
    rig.limits.look([], ["theirs"])
    rig.hangs = asyncio.Event()
    calls = [asyncio.create_task(rig.ask()) for _ in range(40)]
    await async_until(lambda: rig.calls == 40)
    rig.hangs.set()
    await asyncio.gather(*calls)


async def test_calls_beyond_a_minute_s_limit_have_a_place_and_are_not_made(rig: Rig) -> None:
    rig.limit(requests_per_minute=60)
    found = await asyncio.gather(*(rig.ask() for _ in range(30)))
    put_off = [one for one in found if isinstance(one, NotNow)]
    made = [one for one in found if isinstance(one, Done)]
    assert 2 <= len(made) == rig.calls <= 5
    assert len(put_off) == 30 - len(made)
    assert {one.waits_for for one in put_off} == {"limit"}
    assert max(map(waits, put_off)) > timedelta(seconds=20)


async def test_a_turn_that_has_had_its_place_is_not_sent_to_the_end_of_the_line(rig: Rig) -> None:
    rig.limit(requests_per_minute=6)
    await asyncio.gather(*(rig.ask() for _ in range(100)))
    assert waits(await rig.ask(waits_for="limit")) < timedelta(seconds=15)


@pytest.mark.parametrize(
    ("before", "after", "is_raised"),
    [
        ({"requests_per_minute": 1}, {"requests_per_minute": 6_000}, True),
        ({"tokens_per_minute": 100}, {"tokens_per_minute": 9_000_000}, True),
        ({"requests_per_minute": 1}, {"concurrent": 30}, True),
        ({"requests_per_minute": 1}, {"requests_per_minute": 1, "concurrent": 30}, False),
        ({"requests_per_minute": 2}, {"requests_per_minute": 1}, False),
    ],
)
async def test_who_waits_under_a_limit_that_is_raised_goes_at_once(
    rig: Rig, before: dict[str, int], after: dict[str, int], is_raised: bool
) -> None:
    rig.limit(**before)
    found = await asyncio.gather(*(rig.ask() for _ in range(20)))
    assert any(isinstance(one, NotNow) for one in found)
    rig.limit(**after)
    assert rig.recalled == ([("limit", "theirs", "")] if is_raised else [])
    found = await asyncio.gather(*(rig.ask(waits_for="limit") for _ in range(20)))
    assert all(isinstance(one, Done) for one in found) is is_raised


async def test_a_process_that_has_just_begun_calls_nobody_before_it_knows_what_is_limited(
    rig: Rig,
) -> None:
    rig.limit(concurrent=1)
    gates = another_process(rig)
    gates.start(asyncio.get_running_loop())
    outer, _ = gates.layers
    rig.hangs = asyncio.Event()
    calls = [asyncio.ensure_future(outer(a_call(), rig.vendor)) for _ in range(5)]
    await async_until(lambda: sum(one.done() for one in calls) == 4)
    rig.hangs.set()
    await asyncio.gather(*calls)
    await gates.stop()
    assert rig.most == 1


async def test_one_look_takes_permits_for_all_that_ask(rig: Rig) -> None:
    rig.limit(requests_per_minute=6_000)
    before = rig.rows.asked
    await asyncio.gather(*(rig.ask() for _ in range(100)))
    assert rig.calls == 100
    assert rig.rows.asked - before <= 3


async def test_what_another_process_closes_and_opens_is_seen_by_a_look(rig: Rig) -> None:
    rig.answer = LATER
    await rig.ask()
    gates = another_process(rig)
    await gates.look()
    outer, inner = gates.layers

    async def ask() -> Answer:
        return await outer(a_call(), lambda call: inner(call, rig.vendor))

    assert isinstance(await ask(), NotNow)
    with rig.store.begin() as conn:
        conn.execute(update(accounts).values(closed_at=None))
        assert conn.execute(select(accounts.c.n)).scalar() == 1
    await gates.look()
    rig.answer = Done(text="hi", usage=Usage())
    assert isinstance(await ask(), Done)
    await gates.stop()


def another_process(rig: Rig) -> Gates:
    return Gates(
        rig.store,
        owner="two",
        account_of=lambda name: "ab12",
        announce=lambda head: None,
        slots=lambda: 40,
    )
