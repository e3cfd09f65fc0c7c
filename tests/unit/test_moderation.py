"""Moderation: what is refused goes no further, its turn says so, and what it cost is booked."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.claims import a_claim
from tests.hostile import SECRET
from tests.ledgers import FakeLedger, deps_of
from turnmill.domain.content import Message, ToolOutput
from turnmill.domain.states import TurnState
from turnmill.store.records import Settlement
from turnmill_worker.layers import Done, Request, Said, moderation
from turnmill_worker.layers.registered import Named
from turnmill_worker.providers.port import Usage
from turnmill_worker.turn.run import run_claim

pytestmark = pytest.mark.anyio

ASKED: list[str] = []
SOON = timedelta(seconds=0.05)


@pytest.fixture(autouse=True)
def _nobody_was_asked() -> None:
    ASKED.clear()


async def says(request: Request) -> Done:
    ASKED.append(request.text)
    return Done(
        text=f"You said {request.text}",
        usage=Usage(input_tokens=7, output_tokens=5),
        thread_ref="resp_1",
        kept=["item_1"],
        model="mock-2",
    )


async def no_bombs(said: Said) -> str | None:
    return f"weapons in {said.where} of {said.user_id}" if "bomb" in said.text else None


async def verdict(
    text: str, judge: Any = no_bombs, said: Sequence[Message] = (), **options: Any
) -> Settlement:
    ledger = FakeLedger()
    layer = Named(name="moderation", layer=moderation(judge, **options))
    deps = deps_of(ledger, says, layers=[layer], price=lambda *_: Decimal("0.25"))
    messages = [Message.of("user", text), *said]
    await asyncio.wait_for(run_claim(a_claim(messages=messages, user_id="ada"), deps), 5.0)
    return ledger.settled[-1]


async def test_what_nobody_minds_passes_as_it_is() -> None:
    settled = await verdict("hello")
    assert settled.state is TurnState.SUCCEEDED
    assert ASKED == ["hello"]


async def test_what_is_refused_is_not_sent_and_costs_nothing() -> None:
    settled = await verdict("a bomb")
    assert (settled.state, settled.error_code) == (TurnState.FAILED, "input_refused")
    assert settled.error_detail == "weapons in input of ada"
    assert ASKED == []
    assert settled.cost_usd is None
    assert not settled.input_tokens


async def test_what_a_tool_says_is_judged_and_what_the_model_said_before_is_not() -> None:
    called = Message.of("assistant", "bomb")
    output = Message("tool", [ToolOutput(call_id="call_1", output="a bomb")])
    assert (await verdict("hello", said=[called], output=False)).state is TurnState.SUCCEEDED
    assert (await verdict("hello", said=[called, output])).error_code == "input_refused"


async def of_output(said: Said) -> str | None:
    return "manners" if said.where == "output" else None


async def test_a_reply_that_is_refused_is_stored_nowhere_and_booked_as_it_was_counted() -> None:
    settled = await verdict("hello", of_output)
    assert (settled.state, settled.error_code) == (TurnState.FAILED, "output_refused")
    assert not settled.replies
    assert settled.partial == ""
    assert (settled.input_tokens, settled.output_tokens) == (7, 5)
    assert (settled.cost_usd, settled.model) == (Decimal("0.25"), "mock-2")
    assert not settled.estimated
    assert {one.ref for one in settled.kept} == {"resp_1", "item_1"}


async def test_work_in_the_background_that_is_refused_ends_its_turn_and_is_booked_once() -> None:
    ledger = FakeLedger()
    layer = Named(name="moderation", layer=moderation(of_output))
    deps = deps_of(ledger, None, check=says, layers=[layer], price=lambda *_: Decimal("0.25"))
    waited = a_claim(kind="resume", native_ref="resp_1", estimated=True)
    await asyncio.wait_for(run_claim(waited, deps), 5.0)
    (settled,) = ledger.settled
    assert (settled.state, settled.error_code) == (TurnState.FAILED, "output_refused")
    assert (settled.input_tokens, settled.output_tokens) == (7, 5)
    assert (settled.cost_usd, settled.counts_again) == (Decimal("0.25"), True)
    assert {one.ref for one in settled.kept} == {"resp_1", "item_1"}


async def test_without_output_a_reply_is_not_judged() -> None:
    assert (await verdict("hello", of_output, output=False)).state is TurnState.SUCCEEDED


async def breaks(said: Said) -> str | None:
    raise ValueError(SECRET)


async def hangs(said: Said) -> str | None:
    await asyncio.Event().wait()
    return None


@pytest.mark.parametrize("judge", [breaks, hangs])
async def test_a_moderator_that_fails_lets_nothing_pass_and_is_asked_again(judge: Any) -> None:
    settled = await verdict("hello", judge, within=SOON)
    assert (settled.state, settled.error_code) == (TurnState.RETRYING, "moderation_failed")
    assert ASKED == []
    assert SECRET not in str(settled)


@pytest.mark.parametrize("judge", [breaks, hangs])
async def test_one_that_fails_after_the_reply_does_not_have_it_paid_for_twice(judge: Any) -> None:
    async def later(said: Said) -> str | None:
        return await judge(said) if said.where == "output" else None

    settled = await verdict("hello", later, within=SOON)
    assert (settled.state, settled.error_code) == (TurnState.FAILED, "moderation_failed")
    assert settled.cost_usd == Decimal("0.25")
