"""Before a call leaves, the most that it may cost is reserved; then it is charged what it did."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.claims import a_claim
from tests.ledgers import FakeLedger, deps_of
from turnmill.domain.errors import (
    MaybeSent,
    NotSent,
    ProviderError,
    RateLimited,
    Rejected,
    ThreadLost,
)
from turnmill.domain.states import FOR_BUDGET, TurnState
from turnmill.store.budget_records import Found
from turnmill.store.records import Settlement
from turnmill_worker.layers.call import Call, Go
from turnmill_worker.layers.registered import Named
from turnmill_worker.providers.boundary import Answer
from turnmill_worker.providers.counting import MOST_OUTPUT
from turnmill_worker.providers.port import Done, Request, Running, Usage

pytestmark = pytest.mark.anyio

SETTINGS = {"max_output_tokens": 100}


def price(_: str, model: str, usage: Usage) -> Decimal | None:
    """A cent for each token that is said, and nothing for what is read."""
    if model == "unheard-of" or usage.output_tokens is None:
        return None
    return Decimal(usage.output_tokens) / 100


def says(**done: Any) -> Callable[[Request], Any]:
    async def send(_: Request) -> Done:
        usage = Usage(input_tokens=3, output_tokens=20)
        return Done(**{"text": "yes", "usage": usage, **done})

    return send


def raises(error: ProviderError) -> Callable[[Request], Any]:
    async def send(_: Request) -> Done:
        raise error

    return send


async def verdict_of(ledger: FakeLedger, send: Any, *layers: Any, **of_claim: Any) -> Settlement:
    claim = a_claim(**{"budgeted": True, "settings": SETTINGS, **of_claim})
    named = [Named(name=f"layer-{n}", layer=one) for n, one in enumerate(layers)]
    deps = deps_of(ledger, send, check=send, price=price, layers=named)
    from turnmill_worker.turn.run import run_claim

    await asyncio.wait_for(run_claim(claim, deps), 5.0)
    return ledger.settled[-1]


async def never(_: Request) -> Done:
    raise AssertionError("the call has left")


async def test_a_turn_that_no_budget_bounds_asks_for_nothing() -> None:
    ledger = FakeLedger()
    verdict = await verdict_of(ledger, says(), budgeted=False)
    assert ledger.asked == []
    assert not verdict.budgeted


async def test_the_most_that_a_call_may_cost_is_reserved_before_it_leaves() -> None:
    ledger = FakeLedger()

    async def send(_: Request) -> Done:
        assert [one.amount_usd for one in ledger.asked] == [1]
        return Done(text="yes", usage=Usage(input_tokens=3, output_tokens=20))

    verdict = await verdict_of(ledger, send)
    assert (verdict.cost_usd, verdict.budgeted) == (Decimal("0.2"), True)
    assert not (verdict.unsettled or verdict.reconciles)


async def test_without_a_setting_a_model_may_say_as_much_as_any() -> None:
    ledger = FakeLedger()
    await verdict_of(ledger, says(), settings={})
    assert ledger.asked[0].amount_usd == Decimal(MOST_OUTPUT) / 100


async def test_what_no_budget_bounds_after_all_has_no_books() -> None:
    verdict = await verdict_of(FakeLedger(reserves=Found.FREE), says())
    assert (verdict.cost_usd, verdict.budgeted) == (Decimal("0.2"), False)


@pytest.mark.parametrize(
    ("found", "model", "code"),
    [
        (Found.EXCEEDED, "large", "budget_exceeded"),
        (Found.UNPRICED, "unheard-of", "price_unknown"),
    ],
)
async def test_what_may_not_be_paid_fails_before_it_leaves(
    found: Found, model: str, code: str
) -> None:
    verdict = await verdict_of(FakeLedger(reserves=found), never, model=model)
    assert (verdict.state, verdict.error_code) == (TurnState.FAILED, code)
    assert (verdict.cost_usd, verdict.unsettled) == (None, False)


async def test_what_is_to_wait_is_put_off_and_spends_no_attempt() -> None:
    verdict = await verdict_of(FakeLedger(reserves=Found.LATER), never)
    assert (verdict.state, verdict.waits_for) == (TurnState.QUEUED, FOR_BUDGET)
    assert verdict.gives_attempt_back


async def test_who_lost_the_turn_asks_no_provider() -> None:
    verdict = await verdict_of(FakeLedger(reserves=Found.FENCED), never)
    assert verdict.outcome == "released"


async def test_where_the_store_does_not_answer_the_turn_is_given_back_with_its_books() -> None:
    verdict = await verdict_of(FakeLedger(away=True), never)
    assert (verdict.outcome, verdict.budgeted, verdict.unsettled) == ("released", True, False)


@pytest.mark.parametrize(
    ("error", "unsettled"),
    [
        (RateLimited(), False),
        (NotSent(), False),
        (Rejected("invalid_prompt"), False),
        (Rejected("unreadable_reply"), True),
        (MaybeSent("timeout"), True),
        (MaybeSent("server_error", answered=True), False),
        (RuntimeError("a bug of somebody's"), True),
    ],
)
async def test_a_call_without_a_reply_costs_nothing_unless_nobody_knows(
    error: ProviderError, unsettled: bool
) -> None:
    verdict = await verdict_of(FakeLedger(), raises(error))
    assert (verdict.budgeted, verdict.unsettled) == (True, unsettled)


async def test_work_in_the_background_is_an_estimate() -> None:
    async def send(_: Request) -> Running:
        return Running(native_ref="work")

    verdict = await verdict_of(FakeLedger(), send)
    assert (verdict.state, verdict.unsettled) == (TurnState.WAITING, True)


async def test_a_reply_of_a_model_without_a_price_is_an_estimate() -> None:
    verdict = await verdict_of(FakeLedger(), says(model="unheard-of"))
    assert (verdict.cost_usd, verdict.priced, verdict.unsettled) == (None, False, True)


@pytest.mark.parametrize("kind", ["check", "resume"])
async def test_a_question_costs_nothing_and_tells_what_the_call_did(kind: str) -> None:
    ledger = FakeLedger()
    verdict = await verdict_of(ledger, says(), kind=kind, native_ref="work")
    assert ledger.asked == []
    assert (verdict.budgeted, verdict.reconciles) == (True, True)
    assert verdict.cost_usd == Decimal("0.2")


async def test_a_thread_that_is_rebuilt_is_reserved_for_anew() -> None:
    ledger = FakeLedger()

    async def send(request: Request) -> Done:
        if request.thread_ref:
            raise ThreadLost
        return Done(text="yes", usage=Usage(input_tokens=3, output_tokens=20))

    verdict = await verdict_of(ledger, send, provider_ref="thread")
    assert [one.amount_usd for one in ledger.asked] == [1, 1]
    assert verdict.cost_usd == Decimal("0.2")


async def twice(call: Call, go: Go) -> Answer:
    await go(call)
    return await go(call)


async def test_a_claim_owes_for_its_calls_before_the_last() -> None:
    ledger = FakeLedger()
    verdict = await verdict_of(ledger, says(), twice)
    assert [one.amount_usd for one in ledger.asked] == [1, Decimal("1.2")]
    assert verdict.cost_usd == Decimal("0.4")


async def test_what_was_paid_is_booked_though_the_call_after_it_failed() -> None:
    ledger = FakeLedger()

    async def send(_: Request) -> Done:
        if len(ledger.asked) == 2:
            raise RateLimited
        return Done(text="yes", usage=Usage(input_tokens=3, output_tokens=20))

    verdict = await verdict_of(ledger, send, twice)
    assert verdict.state is TurnState.RETRYING
    assert (verdict.cost_usd, verdict.unsettled) == (Decimal("0.2"), False)


async def keeps_back(call: Call, go: Go) -> Answer:
    await go(call)
    raise Rejected("not_for_users")


async def test_a_reply_that_a_layer_keeps_back_is_paid_for_all_the_same() -> None:
    verdict = await verdict_of(FakeLedger(), says(), keeps_back)
    assert (verdict.state, verdict.error_code) == (TurnState.FAILED, "not_for_users")
    assert (verdict.cost_usd, verdict.unsettled) == (Decimal("0.2"), False)
