"""Ten thousand answers of each API that no vendor gave: each is final, and is asked for once."""

import random
import resource
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any

import pytest

from tests.doubles.mutations import mutant
from tests.doubles.raw_vendor import SETTINGS, RawVendor
from tests.doubles.whole_turn import Books, run_to_end
from turnmill.domain.errors import ProviderError, Rejected
from turnmill.domain.states import TurnState
from turnmill_worker.providers.answers import read
from turnmill_worker.providers.anthropic import messages
from turnmill_worker.providers.http import RawAnswer
from turnmill_worker.providers.openai import chat, responses
from turnmill_worker.providers.port import Done, Running

pytestmark = pytest.mark.anyio

REPLIES: dict[str, Callable[[Mapping[str, Any]], Done | Running]] = {
    "responses": partial(responses.reply_of, chain=True, request_id=""),
    "chat": partial(chat.reply_of, request_id=""),
    "messages": partial(messages.reply_of, request_id=""),
}

#: Endings of a turn whose vendor has answered.
ENDINGS = {TurnState.SUCCEEDED, TurnState.FAILED, TurnState.DEAD}
MOST_ATTEMPTS = 2


@pytest.fixture
async def vendor() -> AsyncIterator[RawVendor]:
    async with RawVendor() as vendor:
        yield vendor


@pytest.mark.parametrize("api", list(SETTINGS))
@pytest.mark.parametrize(
    ("count", "seed"), [(200, 1), pytest.param(10_000, 2, marks=pytest.mark.slow)]
)
async def test_whatever_a_vendor_answers_is_final_and_is_asked_for_once(
    vendor: RawVendor, api: str, count: int, seed: int
) -> None:
    dice, provider, endings = random.Random(f"{api}{seed}"), vendor.provider(api), Counter[str]()
    before = _memory()
    for number in range(count):
        answer = mutant(api, dice)
        vendor.meet(answer.wire)
        books = Books()
        last = await run_to_end(
            provider,
            books,
            settings=SETTINGS[api],
            model="gpt-5-mini",
            max_attempts=MOST_ATTEMPTS,
        )
        told = (number, answer.wire.raw[:3_000], last)
        codes = [one.error_code or "" for one in books.settled]
        assert last.state in ENDINGS, told
        assert not any(code.startswith("bug:") or code == "worker_lost" for code in codes), told
        most = MOST_ATTEMPTS if answer.may_be_asked_again else 1
        assert 1 <= len(vendor.bodies) <= most, told
        for known in (last.input_tokens, last.output_tokens, last.cached_tokens):
            assert known is None or 0 <= known < 2**40, told
        f"{last.text}{last.provider_ref}{last.model}{last.request_id}".encode()
        endings[last.state] += 1
    await provider.aclose()
    assert _memory() - before < 100 * 2**20
    assert endings[TurnState.SUCCEEDED] > count // 3  # most changes touch nothing that matters
    assert endings[TurnState.FAILED] > count // 20


@pytest.mark.parametrize("api", list(SETTINGS))
async def test_ten_thousand_bodies_are_a_reply_or_an_error_that_says_whether_to_ask_again(
    api: str,
) -> None:
    dice, endings = random.Random(api), Counter[str]()
    for number in range(10_000):
        changed = mutant(api, dice)
        head, _, body = changed.wire.raw.partition(b"\r\n\r\n")
        if changed.wire.hang_up or b"Content-Encoding" in head or b" 200 " not in head:
            continue  # read by the client, or not at all
        found = await outcome(RawAnswer(200, {}, body), api)
        fine = isinstance(found, Done | Rejected) or changed.may_be_asked_again
        assert fine, (number, body[:3_000], found)
        endings[type(found).__name__] += 1
    assert endings["Done"] > 3_000
    assert endings["Rejected"] > 500


async def outcome(answer: RawAnswer, api: str) -> Done | Running | ProviderError:
    try:
        return await read(answer, REPLIES[api])
    except ProviderError as error:
        return error


def _memory() -> int:
    """Return the most memory that this process has ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
