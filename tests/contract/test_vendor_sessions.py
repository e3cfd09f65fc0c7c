"""A session of a client, through the store, with a vendor that answers oddly."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from tests.doubles.raw_vendor import RawVendor, http
from tests.doubles.vendor_thread import VendorThread
from turnmill import Client, TurnFailed
from turnmill.testing import memory_client

WAIT = 30


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Iterator[RawVendor]:
    with VendorThread() as vendor:
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        monkeypatch.setenv("OPENAI_BASE_URL", vendor.url)
        yield vendor


@pytest.fixture
def client(vendor: RawVendor) -> Iterator[Client]:
    with memory_client() as client:
        yield client


def a_response(*output: dict[str, Any], **fields: Any) -> dict[str, Any]:
    said = {"type": "message", "content": [{"type": "output_text", "text": "Paris"}]}
    return {"id": "resp_1", "status": "completed", "output": list(output) or [said], **fields}


def test_a_tool_call_that_nobody_answers_does_not_end_the_session(
    client: Client, vendor: RawVendor
) -> None:
    call = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
    vendor.meet(http(a_response()), http(a_response(call, id="resp_2")), http(a_response()))
    session = client.sessions.create(user_id="ada", provider="openai", model="gpt-5-mini")
    replies = [client.send(session, text).result(timeout=WAIT) for text in ("1", "2", "3")]
    assert [reply.text for reply in replies] == ["Paris", "", "Paris"]
    assert [body.get("previous_response_id") for body in vendor.bodies] == [None, "resp_1", None]
    said = [item.get("content") or item["type"] for item in vendor.bodies[2]["input"][2:]]
    assert said == ["2", "function_call", "function_call_output", "3"]


def test_what_was_used_is_unknown_where_the_vendor_does_not_say(
    client: Client, vendor: RawVendor
) -> None:
    vendor.meet(http(a_response()))
    session = client.sessions.create(user_id="ada", provider="openai", model="gpt-5-mini")
    reply = client.send(session, "Hello").result(timeout=WAIT)
    assert (reply.usage.total_tokens, reply.cost_usd) == (None, None)
    assert client.sessions.get(session).unpriced_attempts == 1


def test_the_vendors_words_are_kept_with_the_attempt(client: Client, vendor: RawVendor) -> None:
    vendor.meet(http(b"<html>Welcome to the hotel</html>"))
    session = client.sessions.create(user_id="ada", provider="openai", model="gpt-5-mini")
    turn = client.send(session, "Hello")
    with pytest.raises(TurnFailed) as caught:
        turn.result(timeout=WAIT)
    (attempt,) = turn.attempts()
    assert attempt.error_code == "unreadable_reply"
    assert attempt.error_detail == "<html>Welcome to the hotel</html>"
    assert "hotel" not in str(caught.value)


def test_an_attempt_keeps_what_the_vendor_said_of_its_usage_and_what_its_price_is_by(
    client: Client, vendor: RawVendor
) -> None:
    usage = {
        "input_tokens": 2000,
        "input_tokens_details": {"cached_tokens": 1500},
        "output_tokens": 10,
        "note": "Ada said hello",
    }
    vendor.meet(http(a_response(usage=usage, model="gpt-5-2025-08-07", service_tier="flex")))
    session = client.sessions.create(user_id="ada", provider="openai", model="gpt-5-mini")
    reply = client.send(session, "Hello").result(timeout=WAIT)
    assert reply.usage.cached_share == 0.75
    # 500 × 0.625 + 1,500 × 0.0625 + 10 × 5, for a million: of the model and tier that answered
    assert reply.cost_usd == Decimal("0.00045625")
    (attempt,) = reply.attempts
    assert attempt.service_tier == "flex"
    assert (attempt.priced_by or "").endswith("openai/gpt-5@flex")
    kept = {name: one for name, one in usage.items() if name != "note"}
    assert attempt.usage == [{"model": "gpt-5-2025-08-07", "service_tier": "flex", "usage": kept}]
