"""A call that is cut leaves what had come of it, and an estimate of what it has used."""

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from tests.ledgers import SAID, FakeLedger, deps_of
from turnmill.domain.content import Image, Message, Text
from turnmill.domain.errors import MaybeSent, Overloaded, Rejected
from turnmill.domain.ids import TurnId
from turnmill.domain.states import TurnState
from turnmill.store.codec import StoredHistory
from turnmill.store.records import Settlement
from turnmill_worker.layers.partial import Partial
from turnmill_worker.providers.port import (
    Absent,
    Done,
    Failed,
    Request,
    Running,
    Unknowable,
    Usage,
)
from turnmill_worker.turn.in_hand import InHand
from turnmill_worker.turn.run import run_turn

pytestmark = pytest.mark.anyio

Emit = Callable[[str], Awaitable[None]]
STREAMED = {"stream": True, "history": StoredHistory()}


async def cancelled(*pieces: str, **claimed: Any) -> Settlement:
    """Return the verdict over a call that is cancelled when it has emitted these pieces."""
    ledger, in_hand, reached = FakeLedger(options=STREAMED | claimed), InHand(), asyncio.Event()

    async def send(request: Request, emit: Emit | None = None) -> Done:
        for piece in pieces:
            assert emit is not None
            await emit(piece)
        reached.set()
        await asyncio.sleep(3600)
        raise AssertionError("it was never closed")

    deps = deps_of(ledger, send, in_hand=in_hand, price=priced)
    turn = asyncio.create_task(run_turn(TurnId(uuid4()), deps))
    await reached.wait()
    in_hand.cancelled(in_hand.pairs())
    await turn
    (settlement,) = ledger.settled
    return settlement


def priced(provider: str, model: str, usage: Usage) -> Decimal | None:
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    return Decimal(usage.input_tokens + 10 * usage.output_tokens)


async def failed(error: Exception, *pieces: str, **claimed: Any) -> Settlement:
    """Return the verdict over a call that fails when it has emitted these pieces."""
    ledger = FakeLedger(options=STREAMED | claimed)

    async def send(request: Request, emit: Emit | None = None) -> Done:
        for piece in pieces:
            assert emit is not None
            await emit(piece)
        raise error

    await run_turn(TurnId(uuid4()), deps_of(ledger, send, price=priced))
    (settlement,) = ledger.settled
    return settlement


def tokens(settlement: Settlement) -> tuple[int | None, int | None, bool]:
    return settlement.input_tokens, settlement.output_tokens, settlement.estimated


async def test_a_streamed_call_that_is_cancelled_leaves_what_it_has_emitted() -> None:
    settlement = await cancelled("Once ", "upon a ", "t\N{DRAGON}me")
    assert settlement.state is TurnState.CANCELLED
    assert settlement.partial == "Once upon a t\N{DRAGON}me"
    assert "Once" not in repr(settlement)


async def test_what_no_database_stores_is_replaced_in_what_is_left() -> None:
    assert (await cancelled("a\0b")).partial == "a\N{REPLACEMENT CHARACTER}b"


async def test_a_call_that_nobody_watches_is_given_nobody_to_emit_to() -> None:
    settlement = await cancelled(stream=False)
    assert settlement.partial == ""


async def test_a_reply_leaves_no_part_beside_it() -> None:
    ledger = FakeLedger(options=STREAMED)

    async def send(request: Request, emit: Emit) -> Done:
        await emit("whole")
        return Done(text="whole", usage=Usage(input_tokens=1, output_tokens=2))

    await run_turn(TurnId(uuid4()), deps_of(ledger, send, price=priced))
    (settlement,) = ledger.settled
    assert (settlement.partial, settlement.text) == ("", "whole")
    assert (tokens(settlement), settlement.cost_usd) == ((1, 2, False), Decimal(21))


async def test_a_cancelled_call_is_booked_by_what_was_sent_and_what_had_come() -> None:
    settlement = await cancelled("12345678", "9", messages=[Message.of("user", "12345")])
    assert tokens(settlement) == (2, 3, True)  # four bytes a token, rounded up
    assert (settlement.cost_usd, settlement.priced) == (Decimal(32), True)


async def test_a_call_that_is_cut_after_some_pieces_is_booked_before_it_is_tried_again() -> None:
    settlement = await failed(MaybeSent("disconnected"), "12345678")
    assert settlement.state is TurnState.RETRYING
    assert tokens(settlement) == (2, 2, True)


async def test_an_error_in_the_middle_of_a_stream_is_paid_for() -> None:
    settlement = await failed(MaybeSent("server_error", answered=True), "12345678")
    assert tokens(settlement) == (2, 2, True)


@pytest.mark.parametrize("error", [Overloaded(answered=True), Rejected("error_in_reply")])
async def test_whatever_the_error_is_that_comes_in_the_middle(error: Exception) -> None:
    assert tokens(await failed(error, "12345678")) == (2, 2, True)


USED = Done(text="", usage=Usage(input_tokens=20, output_tokens=5), model="theirs-2")


@pytest.mark.parametrize(
    "error", [Overloaded(used=USED), Rejected("no", used=USED), MaybeSent(answered=True, used=USED)]
)
@pytest.mark.parametrize("pieces", [(), ("12345678",)])
async def test_what_a_vendor_has_counted_of_a_call_in_vain_is_what_it_has_used(
    error: Exception, pieces: tuple[str, ...]
) -> None:
    settlement = await failed(error, *pieces)
    assert not settlement.replies
    assert (tokens(settlement), settlement.model) == ((20, 5, False), "theirs-2")
    assert settlement.cost_usd == Decimal(70)


async def test_what_is_counted_of_a_call_that_was_cut_then_is_a_part_of_it() -> None:
    settlement = await failed(MaybeSent("disconnected", used=USED))
    assert tokens(settlement) == (22, 5, True)


@pytest.mark.parametrize("used", [7, "many", Usage(input_tokens=1), object()])
async def test_what_makes_no_sense_of_it_counts_as_not_said(used: object) -> None:
    settlement = await failed(Rejected("no", used=used))
    assert (tokens(settlement), settlement.cost_usd) == ((0, 0, False), None)


async def test_a_question_that_was_not_answered_has_used_nothing() -> None:
    ledger = FakeLedger(options={"kind": "resume", "native_ref": "resp_1", "estimated": True})

    async def check(request: Request) -> Done:
        raise Rejected("invalid_api_key", used=USED)

    await run_turn(TurnId(uuid4()), deps_of(ledger, None, check=check, price=priced))
    (settlement,) = ledger.settled
    assert (settlement.state, settlement.outcome) == (TurnState.WAITING, "unanswered")
    assert (tokens(settlement), settlement.counts_again) == ((0, 0, False), False)


async def test_system_prompt_and_history_are_part_of_what_was_sent() -> None:
    said = StoredHistory.of_rows([("user", [{"type": "text", "text": "x" * 40}])])
    claimed = {"system_prompt": "y" * 20, "history": said}
    assert tokens(await failed(MaybeSent("timeout"), **claimed)) == (17, 0, True)  # and "hello"


async def test_a_thread_that_the_vendor_holds_is_read_by_it_too() -> None:
    settlement = await failed(MaybeSent("timeout"), provider_ref="resp_1")
    letters = sum(len(one.text) for one in SAID) + len("hello")
    assert tokens(settlement) == (-(-letters // 4), 0, True)


async def test_what_nobody_can_size_is_unknown_and_so_is_its_price() -> None:
    shown = [Message("user", (Text("look"), Image(url="https://example.com/cat.png")))]
    ledger = FakeLedger(options=STREAMED | {"messages": shown})

    async def send(request: Request, emit: Emit) -> Done:
        raise MaybeSent("timeout")

    deps = deps_of(ledger, send, price=priced)
    deps.provider("theirs").accepts = frozenset({Text, Image})  # type: ignore[attr-defined]
    await run_turn(TurnId(uuid4()), deps)
    (settlement,) = ledger.settled
    assert tokens(settlement) == (None, 0, True)
    assert (settlement.cost_usd, settlement.priced) == (None, False)


async def test_a_history_that_cannot_be_read_now_is_unknown_too() -> None:
    ledger = FakeLedger(options=STREAMED | {"provider_ref": "resp_1"}, away=True)

    async def send(request: Request, emit: Emit) -> Done:
        raise MaybeSent("timeout")

    await run_turn(TurnId(uuid4()), deps_of(ledger, send, price=priced))
    assert tokens(ledger.settled[0]) == (None, 0, True)


@pytest.mark.parametrize(
    "error", [Overloaded(), Rejected("no"), MaybeSent("http_500", answered=True)]
)
async def test_a_call_that_the_vendor_never_executed_has_used_nothing(error: Exception) -> None:
    settlement = await failed(error)
    assert tokens(settlement) == (0, 0, False)
    assert settlement.priced


@pytest.mark.parametrize(
    ("found", "counts_again"),
    [
        (Done(text="hi", usage=Usage(input_tokens=1, output_tokens=1)), True),
        (Absent(), True),
        (Unknowable(), False),
        (Failed(error=Rejected("no", used=USED)), True),
        (Failed(error=Rejected("no")), True),
    ],
)
async def test_only_a_question_that_finds_out_takes_an_estimate_back(
    found: Done | Absent | Unknowable | Failed, *, counts_again: bool
) -> None:
    for estimated in (True, False):
        ledger = FakeLedger(options={"kind": "check", "estimated": estimated})

        async def check(request: Request) -> Done | Absent | Unknowable | Failed:
            return found

        await run_turn(TurnId(uuid4()), deps_of(ledger, None, check=check, price=priced))
        (settlement,) = ledger.settled
        assert settlement.counts_again is (counts_again and estimated)
        assert not settlement.estimated


async def test_what_is_kept_of_a_stream_has_a_bound_and_no_hole() -> None:
    partial = Partial(most=5)
    emit = partial.keeping(None)
    for piece in ("abc", "defg", "h"):
        await emit(piece)
    assert (partial.text, partial.bytes) == ("abc", 8)


async def test_pieces_are_passed_on_to_whoever_watches() -> None:
    heard: list[str] = []

    async def watch(piece: str) -> None:
        heard.append(piece)

    emit = Partial(most=5).keeping(watch)
    await emit("a")
    await emit("b")
    assert heard == ["a", "b"]


async def test_work_in_the_background_is_booked_by_what_was_sent_until_its_reply_comes() -> None:
    ledger = FakeLedger(options={"messages": [Message.of("user", "12345")]})

    async def send(request: Request) -> Running:
        return Running(native_ref="resp_1")

    await run_turn(TurnId(uuid4()), deps_of(ledger, send, price=priced))
    (settlement,) = ledger.settled
    assert settlement.state is TurnState.WAITING
    assert (tokens(settlement), settlement.cost_usd) == ((2, 0, True), Decimal(2))


async def test_a_look_at_work_that_goes_on_uses_nothing() -> None:
    ledger = FakeLedger(options={"kind": "resume", "native_ref": "resp_1", "estimated": True})

    async def check(request: Request) -> Running:
        return Running(native_ref="resp_1")

    await run_turn(TurnId(uuid4()), deps_of(ledger, None, check=check, price=priced))
    (settlement,) = ledger.settled
    assert (tokens(settlement), settlement.counts_again) == ((0, 0, False), False)
