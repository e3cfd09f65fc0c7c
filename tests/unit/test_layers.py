"""The call and its layers: what each sees, what it may change, and what it cannot break."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.claims import a_claim
from tests.hostile import RAISED, SECRET
from tests.ledgers import SAID, FakeLedger, deps_of
from turnmill.domain.content import Message
from turnmill.domain.errors import (
    ProviderError,
    RateLimited,
    Rejected,
    ThreadLost,
)
from turnmill.domain.ids import TurnId
from turnmill.domain.states import OnAmbiguous, TurnState
from turnmill.store.records import Settlement
from turnmill_worker.layers.call import Call, Go, Layer
from turnmill_worker.layers.guard import TOO_LATE
from turnmill_worker.layers.registered import Named
from turnmill_worker.providers.boundary import Answer
from turnmill_worker.providers.port import Done, Failed, NotNow, Request, Running, Usage
from turnmill_worker.turn.run import run_claim, run_turn
from turnmill_worker.turn.verdict import MAX_FAULTS

pytestmark = pytest.mark.anyio

KINDS = ("send", "check", "resume")
BUDGET = NotNow(until=timedelta(seconds=30), waits_for="budget")


def named(*layers: Layer, opt_in: bool = False) -> list[Named]:
    return [Named(name=f"layer-{n}", layer=one, opt_in=opt_in) for n, one in enumerate(layers)]


async def says(request: Request) -> Done:
    return Done(text=f"You said {request.text}", usage=Usage(input_tokens=3, output_tokens=2))


CALL_4711 = [Message.of("user", "call 4711")]


async def verdict_of(
    *layers: Layer, send: Any = says, ledger: Any = None, **of_claim: Any
) -> Settlement:
    ledger = ledger or FakeLedger()
    deps = deps_of(ledger, send, check=send, layers=named(*layers))
    await asyncio.wait_for(run_claim(a_claim(**of_claim), deps), 5.0)
    settled: Settlement = ledger.settled[-1]
    return settled


async def refuses(call: Call, go: Go) -> Answer:
    answer = await go(call)
    error = Rejected("too_rude", used=answer, kept=["resp_1"])
    if call.kind == "check":
        return Failed(error=error)
    raise error


@pytest.mark.parametrize("kind", KINDS)
async def test_one_that_refuses_a_reply_ends_the_turn_and_says_what_it_has_cost(kind: str) -> None:
    settled = await verdict_of(refuses, kind=kind, native_ref="bg" if kind == "resume" else "")
    assert (settled.state, settled.error_code) == (TurnState.FAILED, "too_rude")
    assert (settled.input_tokens, settled.output_tokens, settled.replies) == (3, 2, ())
    assert "resp_1" in {one.ref for one in settled.kept}


async def passes_on(call: Call, go: Go) -> Answer:
    return await go(call)


@pytest.mark.parametrize("kind", KINDS)
async def test_layers_see_a_call_in_order_and_its_answer_in_reverse(kind: str) -> None:
    seen: list[str] = []

    def layer(name: str) -> Layer:
        async def sees(call: Call, go: Go) -> Answer:
            seen.append(f"{name} {call.kind} of {call.claim.user_id}")
            answer = await go(call)
            seen.append(f"{name} back")
            return answer

        return sees

    verdict = await verdict_of(layer("a"), layer("b"), kind=kind, native_ref="job", user_id="ada")
    asked = "send" if kind == "send" else "check"
    assert seen == [f"a {asked} of ada", f"b {asked} of ada", "b back", "a back"]
    assert verdict.state is TurnState.SUCCEEDED


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_layer_changes_in_a_request_is_sent_and_in_an_answer_is_stored(
    kind: str,
) -> None:
    sent: list[Request] = []

    async def send(request: Request) -> Done:
        sent.append(request)
        return await says(request)

    async def redacts(call: Call, go: Go) -> Answer:
        said = [
            one.with_text(one.text.replace("4711", "[number]")) for one in call.request.messages
        ]
        answer = await go(replace(call, request=replace(call.request, messages=said)))
        assert isinstance(answer, Done)
        return answer.with_text(answer.text.replace("[number]", "(a number)"))

    verdict = await verdict_of(redacts, send=send, kind=kind, native_ref="job", messages=CALL_4711)
    assert [one.text for one in sent] == ["call [number]"]
    assert verdict.text == "You said call (a number)"
    assert (verdict.input_tokens, verdict.output_tokens) == (3, 2)


async def test_a_thread_that_is_rebuilt_goes_past_the_layers_with_its_history() -> None:
    asked: list[tuple[str, int]] = []

    async def send(request: Request) -> Done:
        if request.thread_ref:
            raise ThreadLost
        assert all("Hello" not in part.text for part in request.history)
        return await says(request)

    async def redacts(call: Call, go: Go) -> Answer:
        asked.append((call.request.thread_ref, len(call.request.history)))
        history = [one.with_text("…") for one in call.request.history]
        return await go(replace(call, request=replace(call.request, history=history)))

    verdict = await verdict_of(redacts, send=send, provider_ref="thread")
    assert asked == [("thread", 0), ("", len(SAID))]
    assert verdict.state is TurnState.SUCCEEDED


@pytest.mark.parametrize("make", RAISED.values(), ids=RAISED)
async def test_a_layer_sees_no_more_of_what_a_provider_raises_than_an_error_of_ours(
    make: Callable[[], BaseException],
) -> None:
    seen: list[BaseException] = []

    async def send(request: Request) -> Done:
        raise make()

    async def looks(call: Call, go: Go) -> Answer:
        try:
            return await go(call)
        except BaseException as error:
            seen.append(error)
            raise

    await verdict_of(looks, send=send)
    assert [isinstance(one, ProviderError) for one in seen] == [True]
    assert SECRET not in repr(seen)


@pytest.mark.parametrize("make", RAISED.values(), ids=RAISED)
async def test_a_layer_that_breaks_before_it_sends_has_its_turn_sent_again_without_a_question(
    make: Callable[[], BaseException],
) -> None:
    async def breaks(call: Call, go: Go) -> Answer:
        raise make()

    verdict = await verdict_of(breaks, on_ambiguous=OnAmbiguous.RECONCILE)
    assert verdict.state in {TurnState.RETRYING, TurnState.FAILED, TurnState.UNKNOWN}
    if (verdict.error_code or "").startswith("bug:"):
        assert verdict.state is TurnState.RETRYING


async def test_a_layer_that_breaks_after_it_has_sent_has_the_provider_asked() -> None:
    async def breaks(call: Call, go: Go) -> Answer:
        await go(call)
        raise KeyError("Paris")

    verdict = await verdict_of(breaks)
    assert (verdict.state, verdict.error_code) == (TurnState.UNKNOWN, "bug:KeyError")


async def test_a_layer_may_answer_itself_and_ask_again() -> None:
    tries: list[str] = []

    async def send(request: Request) -> Done:
        tries.append(request.model)
        if request.model == "large":
            raise RateLimited
        return await says(request)

    async def falls_back(call: Call, go: Go) -> Answer:
        try:
            return await go(call)
        except RateLimited:
            return await go(replace(call, request=replace(call.request, model="small")))

    async def caches(call: Call, go: Go) -> Answer:
        return Done(text="as before")

    assert (await verdict_of(falls_back, send=send)).state is TurnState.SUCCEEDED
    assert tries == ["large", "small"]
    assert (await verdict_of(caches, send=send)).text == "as before"
    assert tries == ["large", "small"]


async def test_a_layer_that_goes_on_after_somebody_said_stop_sends_nothing_more() -> None:
    calls: list[str] = []
    begun = asyncio.Event()

    async def send(request: Request) -> Done:
        calls.append(request.model)
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def insists(call: Call, go: Go) -> Answer:
        try:
            return await go(call)
        except BaseException:  # noqa: BLE001
            return await go(call)

    ledger = FakeLedger()
    deps = deps_of(ledger, send, layers=named(insists))
    turn = TurnId(uuid4())
    running = asyncio.ensure_future(run_turn(turn, deps))
    await begun.wait()
    deps.in_hand.cancelled(pair for pair in deps.in_hand.pairs() if pair[0] == turn)
    await asyncio.wait_for(running, 5.0)
    assert calls == ["large"]
    assert ledger.settled[-1].state is TurnState.CANCELLED


@pytest.mark.parametrize("kind", KINDS)
async def test_not_now_gives_a_turn_back_as_it_was_claimed(kind: str) -> None:
    async def limits(call: Call, go: Go) -> Answer:
        return BUDGET

    verdict = await verdict_of(limits, kind=kind, native_ref="job", attempt=5, max_attempts=5)
    given_back = {"send": "queued", "check": "unknown", "resume": "waiting"}
    assert verdict.state == given_back[kind]
    assert (verdict.outcome, verdict.waits_for) == ("not_now", "budget")
    assert (verdict.delay, verdict.error_code) == (timedelta(seconds=30), None)
    assert verdict.gives_attempt_back


async def test_not_now_of_a_question_ends_with_all_patience_for_it() -> None:
    async def limits(call: Call, go: Go) -> Answer:
        return BUDGET

    late = {"kind": "resume", "native_ref": "job", "waited": timedelta(days=2)}
    assert (await verdict_of(limits, **late)).error_code == "background_timeout"
    verdict = await verdict_of(limits, **late | {"expires_in": timedelta(0)})
    assert verdict.state is TurnState.EXPIRED


@pytest.mark.parametrize(
    ("until", "delay"),
    [
        (timedelta(days=400), timedelta(days=1)),
        (timedelta(0), timedelta(seconds=0.1)),
        (timedelta(days=-3), timedelta(seconds=5)),
        (datetime(2200, 1, 1, tzinfo=UTC), timedelta(days=1)),
        (datetime(2001, 1, 1, tzinfo=UTC), timedelta(seconds=0.1)),
        (datetime(2200, 1, 1), timedelta(seconds=5)),  # noqa: DTZ001
        (None, timedelta(seconds=5)),
        ("soon", timedelta(seconds=5)),
    ],
)
async def test_not_now_is_never_longer_than_a_day_nor_at_once(until: Any, delay: timedelta) -> None:
    async def limits(call: Call, go: Go) -> Answer:
        return NotNow(until=until, waits_for="limit")

    assert (await verdict_of(limits)).delay == delay


@pytest.mark.parametrize("name", ["what Ada said", "x" * 65, "", None, 7, "a\nb"])
async def test_what_a_turn_waits_for_is_a_name_and_never_content(name: Any) -> None:
    async def limits(call: Call, go: Go) -> Answer:
        return NotNow(until=timedelta(seconds=1), waits_for=name)

    assert (await verdict_of(limits)).waits_for == "unnamed"


async def test_not_now_is_too_late_for_what_may_have_been_executed() -> None:
    async def late(call: Call, go: Go) -> Answer:
        await go(call)
        return BUDGET

    verdict = await verdict_of(late)
    assert (verdict.state, verdict.error_code) == (TurnState.UNKNOWN, TOO_LATE)
    assert verdict.waits_for is None


async def test_not_now_may_follow_what_a_provider_did_not_execute() -> None:
    async def send(request: Request) -> Done:
        raise RateLimited(retry_after=timedelta(seconds=9))

    async def waits(call: Call, go: Go) -> Answer:
        try:
            return await go(call)
        except RateLimited as error:
            return NotNow(until=error.retry_after or timedelta(1), waits_for="limit")

    verdict = await verdict_of(waits, send=send)
    assert (verdict.state, verdict.delay) == (TurnState.QUEUED, timedelta(seconds=9))


async def test_not_now_is_no_answer_of_a_provider() -> None:
    async def send(request: Request) -> Any:
        return BUDGET

    verdict = await verdict_of(send=send)
    assert (verdict.state, verdict.error_code) == (TurnState.FAILED, "bad_answer")


async def test_nothing_is_noted_as_sent_of_what_a_layer_keeps_back() -> None:
    noted: list[str] = []

    class Notes(FakeLedger):
        async def mark_sent(self, claim: Any) -> bool:
            noted.append(claim.kind)
            return True

    async def limits(call: Call, go: Go) -> Answer:
        return BUDGET

    for layers in ([limits], []):
        await verdict_of(*layers, ledger=Notes(), on_ambiguous=OnAmbiguous.HOLD)
    assert noted == ["send"]


async def test_a_store_that_is_away_behind_a_layer_costs_no_attempt() -> None:
    async def passes(call: Call, go: Go) -> Answer:
        return await go(call)

    ledger = FakeLedger(away=True)
    verdict = await verdict_of(passes, passes, ledger=ledger, on_ambiguous=OnAmbiguous.HOLD)
    assert (verdict.state, verdict.error_code) == (TurnState.QUEUED, "store_unavailable")
    assert verdict.gives_attempt_back and verdict.waits_for is None


async def test_a_layer_that_says_not_now_for_ever_counts_no_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)

    async def limits(call: Call, go: Go) -> Answer:
        return BUDGET

    verdict = await verdict_of(limits, n=MAX_FAULTS + 100)
    assert verdict.state is TurnState.QUEUED
    assert not caplog.records


async def test_work_in_the_background_passes_layers_as_it_is() -> None:
    async def send(request: Request) -> Running:
        return Running(native_ref="job")

    verdict = await verdict_of(passes_on, send=send)
    assert (verdict.state, verdict.native_ref) == (TurnState.WAITING, "job")
