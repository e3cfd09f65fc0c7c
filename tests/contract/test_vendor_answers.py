"""Answers that vendors and compatible servers gave, or may give, and what each of them means."""

import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.raw_vendor import SETTINGS, RawVendor, http
from tests.doubles.whole_turn import Books, run_to_end
from turnmill.domain.content import Message
from turnmill.store.records import Settlement
from turnmill_worker.providers.failures import retry_after

pytestmark = pytest.mark.anyio

_FOLDER = Path(__file__).parents[1] / "cases"
ANSWERS: list[dict[str, Any]] = json.loads((_FOLDER / "vendor_answers.json").read_text())
WAITS: list[dict[str, Any]] = json.loads((_FOLDER / "retry_after.json").read_text())

#: Another one's clock: an hour behind.
NOW = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)

#: How an expectation is read from the last verdict.
READ: dict[str, Callable[[Settlement], object]] = {
    "state": lambda one: one.state.value,
    "text": lambda one: one.text,
    "code": lambda one: one.error_code,
    "model": lambda one: one.model,
    "thread": lambda one: one.provider_ref,
    "finish": lambda one: one.finish_reason,
    "tokens": lambda one: [one.input_tokens, one.output_tokens],
    "cost": lambda one: one.cost_usd,
}


@pytest.fixture
async def vendor() -> AsyncIterator[RawVendor]:
    async with RawVendor() as vendor:
        yield vendor


async def ask(vendor: RawVendor, api: str, books: Books | None = None, **given: Any) -> Settlement:
    provider = vendor.provider(api)
    model = "claude-sonnet-4-5" if api == "messages" else "gpt-5-mini"
    options = {"settings": SETTINGS[api], "model": model} | given
    try:
        return await run_to_end(provider, books or Books(), **options)
    finally:
        await provider.aclose()


def answer_of(case: dict[str, Any]) -> bytes:
    return case["raw"].encode() if "raw" in case else json.dumps(case["body"]).encode()


@pytest.mark.parametrize("case", ANSWERS, ids=lambda case: case["name"])
async def test_an_answer_is_kept_or_ends_its_turn_as_it_should(
    vendor: RawVendor, case: dict[str, Any]
) -> None:
    expected = dict(case["expect"])
    vendor.meet(http(answer_of(case), status=case["status"], headers=case.get("headers")))
    books = Books()
    last = await ask(vendor, case["api"], books)
    assert len(vendor.bodies) == case["sends"]
    assert expected.pop("detail", "") in (books.settled[0].error_detail or "")
    wait = timedelta(seconds=expected.pop("wait", 0))
    assert all(wait <= one.delay for one in books.settled[:-1])
    if expected.get("cost"):
        expected["cost"] = Decimal(expected["cost"])
    assert {name: READ[name](last) for name in expected} == expected


@pytest.mark.parametrize("case", WAITS, ids=lambda case: str(case["headers"]))
def test_a_wait_is_read_as_it_was_meant(case: dict[str, Any]) -> None:
    headers = {name.lower(): value for name, value in case["headers"].items()}
    seconds = case["seconds"]
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert retry_after(headers, now=NOW) == expected


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_date_to_wait_for_counts_from_the_clock_that_named_it(
    vendor: RawVendor, hours: int
) -> None:
    theirs = datetime.now(UTC) + timedelta(hours=hours)
    headers = {
        "Date": theirs.strftime("%a, %d %b %Y %H:%M:%S GMT"),
        "Retry-After": (theirs + timedelta(seconds=30)).strftime("%a, %d %b %Y %H:%M:%S GMT"),
    }
    vendor.meet(http({}, status=429, headers=headers))
    books = Books()
    await ask(vendor, "chat", books, max_attempts=2)
    assert timedelta(seconds=30) <= books.settled[0].delay <= timedelta(seconds=32)


#: Which nobody here answers: no tools were offered.
CALL = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}


SAID = {"type": "message", "content": [{"type": "output_text", "text": "Paris"}]}


def a_response(*output: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": "resp_1", "status": "completed", "output": list(output) or [SAID], **fields}


@pytest.mark.parametrize(
    "first",
    [a_response(CALL, SAID), a_response(id=None), a_response(id="resp\0"), a_response(id=7)],
)
async def test_a_response_that_cannot_be_continued_is_followed_by_the_whole_history(
    vendor: RawVendor, first: dict[str, Any]
) -> None:
    vendor.meet(http(first), http(a_response()))
    one = await ask(vendor, "responses", provider_ref="resp_0")
    past = [Message.of("user", "hello"), Message.of("assistant", one.text or "")]
    await ask(
        vendor,
        "responses",
        provider_ref=one.provider_ref,
        history=past,
        messages=[Message.of("user", "And?")],
    )
    assert vendor.bodies[0]["previous_response_id"] == "resp_0"
    assert "previous_response_id" not in vendor.bodies[1]
    assert [item["role"] for item in vendor.bodies[1]["input"]] == ["user", "assistant", "user"]


def refused(code: str | None, param: str | None, words: str = "No.") -> dict[str, Any]:
    kind = "invalid_request_error"
    return {"error": {"message": words, "type": kind, "param": param, "code": code}}


@pytest.mark.parametrize(
    ("status", "code", "param"),
    [
        (400, "previous_response_not_found", None),
        (404, None, "previous_response_id"),
        (400, "invalid_value", "previous_response_id"),
        (400, None, "input"),  # a call in the thread has no output
    ],
)
async def test_a_thread_that_is_refused_is_built_anew_once(
    vendor: RawVendor, status: int, code: str | None, param: str | None
) -> None:
    vendor.meet(http(refused(code, param), status=status))
    books = Books(past=[Message.of("user", "hello"), Message.of("assistant", "Hello.")])
    last = await ask(vendor, "responses", books, provider_ref="resp_0")
    assert last.state == "failed"
    assert ["previous_response_id" in body for body in vendor.bodies] == [True, False]
    assert len(vendor.bodies[1]["input"]) == 3


@pytest.mark.parametrize(
    ("status", "code", "param"),
    [
        (400, "content_policy_violation", None),
        (400, "invalid_prompt", None),
        (400, "context_length_exceeded", "input"),
        (400, "unsupported_parameter", "temperature"),
        (401, None, "previous_response_id"),
    ],
)
async def test_a_refusal_of_something_else_is_asked_for_once_whatever_its_words_are(
    vendor: RawVendor, status: int, code: str | None, param: str | None
) -> None:
    words = "No tool output found for function call call_1, of previous_response_id."
    vendor.meet(http(refused(code, param, words), status=status))
    last = await ask(vendor, "responses", provider_ref="resp_0")
    assert (last.state, len(vendor.bodies)) == ("failed", 1)
    assert last.error_detail is not None
    assert "No tool output" in last.error_detail


async def test_no_thread_is_lost_where_none_was_named(vendor: RawVendor) -> None:
    vendor.meet(http(refused("previous_response_not_found", "previous_response_id"), status=400))
    last = await ask(vendor, "responses")
    assert (last.state, len(vendor.bodies)) == ("failed", 1)


@pytest.mark.parametrize("api", list(SETTINGS))
@pytest.mark.parametrize("name", ["tool_choice", "functions", "parallel_tool_calls"])
async def test_what_says_how_to_call_tools_is_refused_unsent_where_none_is_offered(
    vendor: RawVendor, api: str, name: str
) -> None:
    last = await ask(vendor, api, settings={**SETTINGS[api], name: []})
    assert (last.state, last.error_code, vendor.bodies) == ("failed", "setting_refused", [])


@pytest.mark.parametrize("status", [400, 429, 500])
async def test_a_refusal_that_was_cut_short_is_what_its_status_says(
    vendor: RawVendor, status: int
) -> None:
    vendor.meet(http(b'{"error": {"message": "half', status=status, missing=3))
    books = Books()
    await ask(vendor, "chat", books, max_attempts=1)
    assert books.settled[0].error_code == f"http_{status}"
    assert "message" in (books.settled[0].error_detail or "")
