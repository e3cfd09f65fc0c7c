"""While a vendor works nothing of a history is kept, and whoever needs it has it again."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import pytest

from tests.contract.rigs import a_request
from tests.doubles.raw_vendor import RawVendor, http
from tests.ledgers import FakeLedger, deps_of, stored
from turnmill.domain.content import Image, Message, Text
from turnmill.domain.errors import MaybeSent, NotSent, StoreUnavailable
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import TurnState
from turnmill.store.codec import StoredHistory
from turnmill_worker.layers.call import Call, Go
from turnmill_worker.layers.registered import Named
from turnmill_worker.providers.boundary import Answer
from turnmill_worker.providers.port import Done, Request, Usage
from turnmill_worker.providers.rereading import is_gone, let_go
from turnmill_worker.turn.gauge import Gauge
from turnmill_worker.turn.in_hand import InHand
from turnmill_worker.turn.run import run_turn

pytestmark = pytest.mark.anyio

LONG = [Message.of(role, "x" * 400) for role in ("user", "assistant") * 2]
SESSION = SessionId(uuid4())
WRONG = "messages.0.content.0.cache_control: Extra inputs are not permitted"
REFUSALS: dict[str, dict[str, Any]] = {
    "chat": {"error": {"message": "property 'prompt_cache_key' is unsupported"}},
    "messages": {"type": "error", "error": {"type": "invalid_request_error", "message": WRONG}},
}
REPLIES: dict[str, dict[str, Any]] = {
    "chat": {"choices": [{"message": {"content": "Paris"}, "finish_reason": "stop"}]},
    "messages": {
        "type": "message",
        "content": [{"type": "text", "text": "Paris"}],
        "stop_reason": "end_turn",
    },
}
SETTINGS: dict[str, dict[str, Any]] = {"chat": {"api": "chat"}, "messages": {}}


@dataclass
class Reading:
    """A store that has the history, and counts how often it was asked for it."""

    away: bool = False
    asked: list[SessionId] = field(default_factory=list)

    async def __call__(self, session: SessionId) -> StoredHistory:
        self.asked.append(session)
        if self.away:
            raise StoreUnavailable
        return stored(LONG)


class Ledger(FakeLedger):
    """Has a long history, with each claim and for whoever asks again."""

    reads = 0

    async def claim(self, turn_id: TurnId, *, crowded: bool = False) -> Any:
        self.brought = stored(LONG)
        return await super().claim(turn_id, crowded=crowded)

    async def history(self, session_id: SessionId) -> StoredHistory:
        self.reads += 1
        await super().history(session_id)  # which may be away
        return stored(LONG)


def again(reading: Reading, said: list[Message] = LONG) -> StoredHistory:
    history = stored(said)
    history.can_be_read_again(reading, SESSION)
    return history


async def test_what_was_let_go_of_comes_back_and_cannot_be_looked_at_before() -> None:
    history, reading = again(Reading()), Reading()
    history.can_be_read_again(reading, SESSION)
    view = history.fitted(lambda one: one if one.role == "user" else None)
    view.let_go()
    assert not (history.is_here or view.is_here)
    for one in (history, view):
        with pytest.raises(RuntimeError, match="come back"):
            list(one)
    await view.come_back()
    assert (list(history), list(view)) == (LONG, LONG[::2])
    await history.come_back()
    assert reading.asked == [SESSION]


@pytest.mark.parametrize(
    "said", [LONG[:1], [*LONG, Message("user", (Text("?"), Image(sha256="a" * 64, size=1)))]]
)
async def test_of_what_is_short_or_holds_files_everything_stays(said: list[Message]) -> None:
    history = again(Reading(), said)
    history.let_go()
    assert list(history) == said
    kept = stored(LONG)
    kept.let_go()  # nobody could read it again
    assert list(kept) == LONG


@pytest.mark.parametrize("api", ["chat", "messages"])
async def test_a_request_that_is_made_anew_says_all_that_the_first_one_said(api: str) -> None:
    reading = Reading()
    request = a_request(settings=SETTINGS[api], history=again(reading))
    async with RawVendor() as vendor:
        provider = vendor.provider(api)
        vendor.meet(http(REFUSALS[api], status=400), http(REPLIES[api]))
        reply = await provider.send(request)
        await provider.aclose()
        first, second = (str(body["messages"]).count("x" * 400) for body in vendor.bodies)
    assert isinstance(reply, Done)
    assert (first, second, reading.asked) == (len(LONG), len(LONG), [SESSION])
    assert is_gone(request)


@pytest.mark.parametrize("api", ["chat", "messages"])
async def test_where_it_does_not_come_back_nothing_more_is_sent(api: str) -> None:
    request = a_request(settings=SETTINGS[api], history=again(Reading(away=True)))
    async with RawVendor() as vendor:
        provider = vendor.provider(api)
        vendor.meet(http(REFUSALS[api], status=400))
        with pytest.raises(NotSent, match=StoreUnavailable.code):
            await provider.send(request)
        await provider.aclose()
        assert len(vendor.bodies) == 1


def a_gauge() -> Gauge:
    """Return one that has what it learns from for the next second."""
    gauge = Gauge()
    assert gauge.keeps_one()
    return gauge


async def asked(
    ledger: Ledger, came: Callable[[Request], Answer], **options: Any
) -> tuple[bool, Any]:
    """Run a turn; return whether its history was gone while the vendor worked, and its verdict."""
    gone: list[bool] = []

    async def send(request: Request) -> Done:
        assert len(list(request.history)) == len(LONG)
        let_go(request)
        gone.append(is_gone(request))
        found = came(request)
        assert isinstance(found, Done)
        return found

    await run_turn(TurnId(uuid4()), deps_of(ledger, send, **{"gauge": a_gauge()} | options))
    return gone[-1], ledger.settled[-1]


def says(_: Request) -> Answer:
    return Done(text="Paris", usage=Usage(input_tokens=400, output_tokens=2))


def breaks(_: Request) -> Answer:
    raise MaybeSent("timeout")


async def test_a_turn_keeps_no_history_while_its_vendor_works() -> None:
    ledger = Ledger()
    assert (await asked(ledger, says))[0]
    assert (ledger.settled[-1].state, ledger.reads) == (TurnState.SUCCEEDED, 0)
    # A claim does not bring along what is very long: it is read for the call.
    ledger.options = {"history": None}
    assert (await asked(ledger, says))[0]


async def test_now_and_then_one_is_kept_to_learn_from() -> None:
    gauge = Gauge()
    kept = [not (await asked(Ledger(), says, gauge=gauge))[0] for _ in range(3)]
    assert kept == [True, False, False]
    assert gauge._measures  # it has learned of that one


@pytest.mark.parametrize(
    "claimed",
    [
        {"settings": {"fallback": ["mock/mock"]}},
        {"settings": {"background": True}},
        {"error_code": "history_refused"},
    ],
)
async def test_whoever_looks_at_it_again_keeps_it(claimed: dict[str, Any]) -> None:
    ledger = Ledger(options=claimed)
    assert not (await asked(ledger, says))[0]


async def test_a_layer_of_the_operators_sees_it_when_the_answer_is_there() -> None:
    seen: list[int] = []

    async def layer(call: Call, go: Go) -> Answer:
        answer = await go(call)
        seen.append(len(list(call.request.history)))
        return answer

    named = [Named(name="sees", layer=layer, opt_in=False)]
    gone, settlement = await asked(Ledger(), says, layers=named)
    assert (gone, seen, settlement.state) == (False, [len(LONG)], TurnState.SUCCEEDED)


async def test_a_call_that_was_cut_is_booked_by_all_that_it_was_told() -> None:
    ledger = Ledger()
    _, settlement = await asked(ledger, breaks)
    assert (settlement.input_tokens, ledger.reads) == (-(-(4 * 400 + len("hello")) // 4), 1)
    ledger.away = True
    _, settlement = await asked(ledger, breaks)
    assert settlement.input_tokens is None  # nobody knows


async def test_a_task_that_is_cancelled_while_a_cut_call_is_measured_still_has_its_verdict() -> (
    None
):
    ledger, reading, go_on = Ledger(), asyncio.Event(), asyncio.Event()
    in_hand = InHand()

    async def slow(session: SessionId) -> StoredHistory:
        reading.set()
        await go_on.wait()
        return stored(LONG)

    ledger.history = slow  # type: ignore[assignment, method-assign]

    async def send(request: Request) -> Done:
        let_go(request)
        raise MaybeSent("timeout")

    deps = deps_of(ledger, send, gauge=a_gauge(), in_hand=in_hand)
    turn = asyncio.create_task(run_turn(TurnId(uuid4()), deps))
    await reading.wait()
    turn.cancel()
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait([turn])
    assert [one.estimated for one in ledger.settled] == [True]


def test_a_request_is_as_good_as_new_for_those_who_let_nothing_go() -> None:
    request = replace(a_request(), history=tuple(LONG))
    let_go(request)
    assert list(request.history) == LONG
