"""Answers that are no reply, in which the vendor says all the same what it has counted."""

from typing import Any

import pytest

from tests.contract.rigs import a_request
from tests.doubles.openai_server import OpenAIDouble
from tests.doubles.raw_vendor import SETTINGS, RawVendor, http
from tests.doubles.whole_turn import Books, run_to_end
from turnmill.domain.errors import MaybeSent, Overloaded, ProviderError, Rejected
from turnmill.domain.states import TurnState
from turnmill.store.records import Settlement
from turnmill_worker.providers.openai.provider import OpenAIProvider
from turnmill_worker.providers.port import Failed, Running, Usage, used_by

pytestmark = pytest.mark.anyio

COUNTED = {"input_tokens": 20, "output_tokens": 5}
TOLD = {"prompt_tokens": 20, "completion_tokens": 5}


def booked(settlement: Settlement) -> tuple[int | None, int | None, bool]:
    return settlement.input_tokens, settlement.output_tokens, settlement.estimated


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("code", ["server_error", "invalid_prompt"])
async def test_a_response_that_failed_is_booked_as_its_vendor_has_counted_it(
    openai: OpenAIProvider, openai_double: OpenAIDouble, code: str, *, stream: bool
) -> None:
    openai_double.meet(f"spent:{code}")
    books = Books()
    last = await run_to_end(openai, books, model="gpt-5-mini", stream=stream)
    first = books.settled[0]
    assert first.error_code == code
    assert booked(first) == (1423, 128, False)
    assert (first.cached_tokens, first.model) == (1024, "gpt-5-mini")
    assert first.cost_usd is not None
    assert first.cost_usd > 0
    assert (last is first) == (code == "invalid_prompt")


@pytest.mark.parametrize("stream", [False, True])
async def test_one_of_which_nothing_is_counted_has_used_nothing(
    openai: OpenAIProvider, openai_double: OpenAIDouble, *, stream: bool
) -> None:
    openai_double.meet("failed:server_error")
    books = Books()
    await run_to_end(openai, books, model="gpt-5-mini", stream=stream)
    assert (booked(books.settled[0]), books.settled[0].cost_usd) == ((0, 0, False), None)


async def test_work_in_the_background_that_failed_takes_the_place_of_its_estimate(
    openai: OpenAIProvider, openai_double: OpenAIDouble
) -> None:
    openai_double.meet("spent:invalid_prompt")
    begun = await openai.send(a_request(settings={"background": True}))
    assert isinstance(begun, Running)
    found = await openai.check(a_request(native_ref=begun.native_ref))
    assert isinstance(found, Failed)
    used = used_by(found.error)
    assert used is not None
    assert (used.usage.input_tokens, used.usage.output_tokens) == (1423, 128)
    openai_double.meet("spent:invalid_prompt")
    last = await run_to_end(openai, Books(), settings={"background": True}, estimated=True)
    assert (last.state, booked(last)) == (TurnState.FAILED, (1423, 128, False))
    assert last.counts_again


NO_REPLIES: dict[str, list[tuple[dict[str, Any], type[ProviderError]]]] = {
    "responses": [
        ({"id": "resp_1", "status": "done", "output": None, "usage": COUNTED}, Rejected),
        ({"error": {"code": "overloaded"}, "usage": COUNTED}, Overloaded),
    ],
    "chat": [
        ({"choices": [], "usage": TOLD}, Rejected),
        ({"choices": [{"finish_reason": "error", "message": {}}], "usage": TOLD}, ProviderError),
    ],
    "messages": [({"content": 7, "usage": COUNTED}, Rejected)],
}


@pytest.mark.parametrize(
    ("api", "payload", "kind"),
    [(api, payload, kind) for api, some in NO_REPLIES.items() for payload, kind in some],
)
async def test_what_holds_no_reply_was_counted_all_the_same(
    api: str, payload: dict[str, Any], kind: type[ProviderError]
) -> None:
    async with RawVendor() as vendor:
        vendor.meet(http(payload))
        provider = vendor.provider(api)
        with pytest.raises(kind) as raised:
            await provider.send(a_request(settings=SETTINGS[api]))
        await provider.aclose()
    used = used_by(raised.value)
    assert used is not None
    assert (used.usage.input_tokens, used.usage.output_tokens) == (20, 5)


PAUSED = {
    "content": [{"type": "text", "text": "Let me see."}],
    "stop_reason": "pause_turn",
    "usage": COUNTED,
    "model": "claude-sonnet-4-5",
}
ENDED = PAUSED | {"stop_reason": "end_turn"}
BUSY = {"type": "error", "error": {"type": "overloaded_error", "message": "Later."}}


async def test_what_was_said_before_a_pause_is_paid_for_where_nothing_follows_it() -> None:
    async with RawVendor() as vendor:
        vendor.meet(http(PAUSED), http(BUSY, status=529), http(ENDED))
        provider = vendor.provider("messages")
        books = Books()
        await run_to_end(provider, books, model="claude-sonnet-4-5")
        await provider.aclose()
    first, last = books.settled
    assert (first.state, booked(first)) == (TurnState.RETRYING, (20, 5, False))
    assert first.cost_usd == last.cost_usd != 0


async def test_what_was_said_before_a_pause_is_added_to_the_estimate_of_what_was_cut() -> None:
    async with RawVendor() as vendor:
        vendor.meet(http(PAUSED), http(ENDED, missing=1))
        provider = vendor.provider("messages")
        with pytest.raises(MaybeSent) as raised:
            await provider.send(a_request())
        used = used_by(raised.value)
        assert used is not None
        assert used.usage == Usage(input_tokens=20, output_tokens=5)
        vendor.meet(http(PAUSED), http(ENDED, missing=1), http(ENDED))
        books = Books()
        await run_to_end(provider, books, model="claude-sonnet-4-5")
        await provider.aclose()
    tokens, said, estimated = booked(books.settled[0])
    assert (tokens or 0) > 20
    assert (said, estimated) == (5, True)
