"""Running a turn whose provider, price, counts or store do what they should not."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from billiard.exceptions import SoftTimeLimitExceeded

from tests.hostile import LATER, NO_ANSWER, PARIS, RAISED, SECRET
from tests.ledgers import FakeLedger, deps_of
from turnmill.domain.errors import StoreError, ThreadLost
from turnmill.domain.ids import TurnId
from turnmill.domain.states import OnAmbiguous, TurnState
from turnmill.store.records import Claim, Settlement
from turnmill_worker.layers.call import Call, Go
from turnmill_worker.layers.holding import Stop
from turnmill_worker.layers.registered import Named
from turnmill_worker.pool.bridge import Driven, await_here
from turnmill_worker.providers import calls
from turnmill_worker.providers.boundary import Answer
from turnmill_worker.providers.port import Done, Provider, Request
from turnmill_worker.turn.deps import Deps
from turnmill_worker.turn.in_hand import InHand
from turnmill_worker.turn.run import Ended, Outrun, run_turn
from turnmill_worker.turn.slots import Slots
from turnmill_worker.turn.verdict import MAX_FAULTS
from turnmill_worker.turn.written import Written

pytestmark = pytest.mark.anyio

SOON = 5.0
RAISED_OR_RETURNED = {**RAISED, **NO_ANSWER, **PARIS, **LATER}


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls.Call.close, "__kwdefaults__", {"patience": timedelta(seconds=0.05)})


def a_turn() -> TurnId:
    return TurnId(uuid4())


def does(make: Callable[[], Any]) -> Callable[[Request], Any]:
    """Return a verb that raises or returns what `make` makes."""

    async def verb(request: Request) -> Any:
        made = make()
        if issubclass(type(made), BaseException):
            raise made
        return made

    return verb


async def verdict_on(deps: Deps, ledger: FakeLedger) -> Settlement:
    outcome = await asyncio.wait_for(run_turn(a_turn(), deps), SOON)
    assert isinstance(outcome, Ended)
    assert deps.slots.in_use == 0
    assert len(deps.in_hand) == 0
    return ledger.settled[-1]


@pytest.mark.parametrize("kind", ["send", "check", "resume"])
@pytest.mark.parametrize("make", RAISED_OR_RETURNED.values(), ids=RAISED_OR_RETURNED)
async def test_whatever_a_provider_does_is_one_attempt_with_a_verdict_that_quotes_nothing(
    make: Callable[[], Any], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = FakeLedger(options={"kind": kind, "native_ref": "job"})
    verdict = await verdict_on(deps_of(ledger, does(make), check=does(make)), ledger)
    assert not verdict.gives_attempt_back
    assert verdict.state in {
        TurnState.SUCCEEDED,
        TurnState.FAILED,
        TurnState.RETRYING,
        TurnState.WAITING,
        TurnState.UNKNOWN,
    }
    words = f"{verdict.error_code} {verdict.request_id} {verdict.finish_reason} {caplog.text}"
    assert SECRET not in words
    assert (verdict.error_code is None) == (verdict.state is TurnState.SUCCEEDED) or (
        verdict.outcome == "waiting"
    )


@pytest.mark.parametrize("make", RAISED.values(), ids=RAISED)
async def test_a_layer_or_a_factory_that_raises_is_judged_as_its_provider(
    make: Callable[[], BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    async def layer(call: Call, go: Go) -> Answer:
        raise make()

    def factory(name: str) -> Provider:
        raise make()

    answers = does(lambda: Done(text="never"))
    for options in ({"layers": [Named(name="theirs", layer=layer)]}, {"provider": factory}):
        ledger = FakeLedger()
        verdict = await verdict_on(deps_of(ledger, answers, **options), ledger)
        assert verdict.state in {TurnState.RETRYING, TurnState.FAILED}
        assert verdict.error_code and SECRET not in verdict.error_code + caplog.text


async def test_a_cancellation_that_is_not_ours_costs_an_attempt_and_ours_does_not() -> None:
    shared: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
    waiting = asyncio.Semaphore(0)

    async def send(request: Request) -> Done:
        waiting.release()
        return await shared

    ledger = FakeLedger()
    deps = deps_of(ledger, send, slots=Slots(2))
    ours, theirs = a_turn(), a_turn()
    running = [asyncio.ensure_future(run_turn(one, deps)) for one in (ours, theirs)]
    for _ in running:
        await waiting.acquire()
    deps.in_hand.cancelled(pair for pair in deps.in_hand.pairs() if pair[0] == ours)
    await asyncio.wait_for(asyncio.gather(*running), SOON)
    found = {one.turn_id: one for one in ledger.settled}
    assert found[ours].state is TurnState.CANCELLED
    assert found[theirs].state is TurnState.RETRYING
    assert found[theirs].error_code == "bug:CancelledError"
    assert not found[theirs].gives_attempt_back


async def test_a_provider_that_cancels_itself_has_broken() -> None:
    async def send(request: Request) -> Done:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(SOON)
        raise AssertionError("it was cancelled")

    ledger = FakeLedger()
    verdict = await verdict_on(deps_of(ledger, send), ledger)
    assert (verdict.state, verdict.error_code) == (TurnState.RETRYING, "bug:CancelledError")


def refusing() -> tuple[Callable[[Request], Any], asyncio.Event, asyncio.Event]:
    """Return a verb that will not be cancelled, what tells that it runs, and what ends it."""
    begun, end = asyncio.Event(), asyncio.Event()

    async def verb(request: Request) -> Done:
        begun.set()
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue
        return Done(text="too late")

    return verb, begun, end


@pytest.mark.parametrize("kind", ["send", "check"])
@pytest.mark.parametrize("how", ["cancel", "drain", "revoke", "timeout"])
async def test_a_call_that_refuses_to_be_cancelled_is_left_behind(how: str, kind: str) -> None:
    verb, begun, end = refusing()
    timeout = timedelta(seconds=0.1 if how == "timeout" else 600)
    ledger = FakeLedger(options={"kind": kind})
    deps = deps_of(ledger, verb, check=verb, turn_timeout=timeout)
    turn = a_turn()
    running = asyncio.ensure_future(run_turn(turn, deps))
    await begun.wait()
    if how == "cancel":
        deps.in_hand.cancelled(pair for pair in deps.in_hand.pairs() if pair[0] == turn)
    elif how == "drain":
        deps.in_hand.close_all(Stop.DRAINING)
    elif how == "revoke":
        running.cancel()
    assert isinstance(await asyncio.wait_for(running, SOON), Ended)
    assert deps.slots.in_use == 0
    (verdict,) = ledger.settled
    sent = TurnState.UNKNOWN if kind == "send" else TurnState.QUEUED
    expected = {
        "cancel": TurnState.CANCELLED,
        "drain": sent,
        "revoke": TurnState.UNKNOWN,
        "timeout": TurnState.RETRYING if kind == "send" else TurnState.UNKNOWN,
    }
    assert verdict.state is expected[how]
    # A question spends none: one that was cut is asked again after a pause.
    assert verdict.gives_attempt_back == (how == "drain" or (how, kind) == ("revoke", "send"))
    end.set()


async def test_an_answer_in_hand_is_kept_though_the_call_was_closed() -> None:
    begun = asyncio.Event()

    async def send(request: Request) -> Done:
        begun.set()
        try:
            await asyncio.sleep(SOON)
        except asyncio.CancelledError:
            return Done(text="just in time")
        raise AssertionError("it was cancelled")

    ledger = FakeLedger()
    deps = deps_of(ledger, send)
    running = asyncio.ensure_future(run_turn(a_turn(), deps))
    await begun.wait()
    deps.in_hand.close_all(Stop.DRAINING)
    await asyncio.wait_for(running, SOON)
    assert ledger.settled[0].text == "just in time"


async def test_a_soft_time_limit_of_celery_costs_an_attempt() -> None:
    begun = asyncio.Event()

    async def send(request: Request) -> Done:
        begun.set()
        await asyncio.sleep(SOON)
        raise AssertionError("it was cancelled")

    ledger = FakeLedger()
    turn = run_turn(a_turn(), deps_of(ledger, send))

    async def job() -> Any:
        return await Driven(lambda: await_here(turn), lambda: SoftTimeLimitExceeded(1))

    running = asyncio.ensure_future(job())
    await begun.wait()
    running.cancel()
    assert isinstance(await asyncio.wait_for(running, SOON), Ended)
    (verdict,) = ledger.settled
    assert (verdict.state, verdict.error_code) == (TurnState.RETRYING, "turn_timeout")
    assert not verdict.gives_attempt_back


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("long history", {"history": None}),
        ("lost thread", {}),
        ("mark", {"on_ambiguous": OnAmbiguous.HOLD}),
    ],
)
async def test_a_turn_that_cannot_be_put_to_its_provider_is_given_back_and_not_for_ever(
    fault: str, options: dict[str, Any]
) -> None:
    async def send(request: Request) -> Done:
        raise ThreadLost("previous_response_not_found")

    delays = []
    for n in range(1, 5 + MAX_FAULTS + 1):
        ledger = FakeLedger(away=True, options={"n": n, **options})
        verdict = await verdict_on(deps_of(ledger, send, jitter=lambda: 0.5), ledger)
        assert verdict.error_code == "store_unavailable"
        if verdict.state is TurnState.DEAD:
            break
        assert verdict.state is TurnState.QUEUED
        assert verdict.gives_attempt_back
        delays.append(verdict.delay)
    assert verdict.state is TurnState.DEAD
    assert len(delays) == 5 + MAX_FAULTS - 1
    assert delays == sorted(delays)
    assert delays[0] > timedelta(0)


async def test_a_row_that_cannot_be_read_is_a_fault_whose_words_nobody_hears(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Corrupt(FakeLedger):
        async def history(self, session_id: Any) -> Any:
            raise KeyError(SECRET)

    ledger = Corrupt(options={"history": None})
    verdict = await verdict_on(deps_of(ledger, None), ledger)
    assert (verdict.state, verdict.error_code) == (TurnState.QUEUED, "bug:KeyError")
    assert verdict.delay >= timedelta(0)
    assert SECRET not in caplog.text


@pytest.mark.parametrize("policy", OnAmbiguous)
async def test_code_that_breaks_over_a_question_is_not_asked_for_ever(policy: OnAmbiguous) -> None:
    for n, state in ((1, TurnState.UNKNOWN), (5 + MAX_FAULTS, TurnState.DEAD)):
        ledger = FakeLedger(options={"kind": "check", "n": n, "on_ambiguous": policy})
        check = does(RAISED["SystemExit"])
        verdict = await verdict_on(deps_of(ledger, None, check=check), ledger)
        assert (verdict.state, verdict.error_code) == (state, "bug:SystemExit")


@pytest.mark.parametrize("make", RAISED.values(), ids=RAISED)
async def test_a_price_a_count_and_announcements_that_raise_lose_no_verdict(
    make: Callable[[], BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    told: list[TurnId] = []

    def breaks(*_: Any) -> Any:
        raise make()

    def tells(seen: Written) -> None:
        assert "Paris" not in repr(asdict(seen))
        told.append(seen.turn_id)
        raise make()

    ledger = FakeLedger()
    answers = does(lambda: Done(text="Paris"))
    deps = deps_of(
        ledger,
        answers,
        price=breaks,
        announce_at=breaks,
        announce=breaks,
        told=tells,
    )
    verdict = await verdict_on(deps, ledger)
    assert (verdict.text, verdict.cost_usd, verdict.priced) == ("Paris", None, False)
    assert told == [verdict.turn_id]
    assert SECRET not in caplog.text


async def test_tokens_that_make_no_sense_are_no_free_call() -> None:
    ledger = FakeLedger()
    send = does(PARIS["usage absurd"])
    verdict = await verdict_on(deps_of(ledger, send, price=lambda *_: Decimal("NaN")), ledger)
    assert (verdict.text, verdict.output_tokens) == ("Paris", 5)
    assert (verdict.cost_usd, verdict.priced) == (None, False)


@pytest.mark.parametrize("refusal", [StoreError(SECRET), ValueError(SECRET), TypeError(SECRET)])
async def test_a_store_that_refuses_a_verdict_is_not_quoted_and_nothing_reaches_celery(
    refusal: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ledger = FakeLedger(refuses=refusal)
    deps = deps_of(ledger, does(lambda: Done(text=SECRET)), in_hand=InHand())
    assert await run_turn(a_turn(), deps) == Outrun()
    assert SECRET not in caplog.text


async def test_a_claim_that_fails_is_not_quoted_and_nothing_reaches_celery(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(FakeLedger):
        async def claim(self, turn_id: TurnId, *, crowded: bool = False) -> Claim | None:
            raise ValueError(SECRET)

    deps = deps_of(Broken(), None)
    await run_turn(a_turn(), deps)
    assert deps.slots.in_use == 0
    assert SECRET not in caplog.text


async def test_a_task_that_celery_ends_again_and_again_at_last_costs_attempts() -> None:
    async def send(request: Request) -> Done:
        begun.set()
        await asyncio.sleep(SOON)
        raise AssertionError("it was cancelled")

    given_back = []
    for n in (1, 5 + MAX_FAULTS):
        begun = asyncio.Event()
        ledger = FakeLedger(options={"n": n})
        running = asyncio.ensure_future(run_turn(a_turn(), deps_of(ledger, send)))
        await begun.wait()
        running.cancel()
        await asyncio.wait_for(running, SOON)
        (verdict,) = ledger.settled
        assert (verdict.state, verdict.error_code) == (TurnState.UNKNOWN, "revoked")
        given_back.append(verdict.gives_attempt_back)
    assert given_back == [True, False]
