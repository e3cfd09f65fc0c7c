"""What a refused call means, whoever refuses it."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnmill.domain.errors import (
    MaybeSent,
    NotSent,
    Overloaded,
    ProviderError,
    RateLimited,
    Rejected,
    ThreadLocked,
)
from turnmill_worker.http1.answer import Headers
from turnmill_worker.providers.answers import read, refusal
from turnmill_worker.providers.failures import (
    error_object_of,
    error_of_status,
    retry_after,
    safe_code,
    words_of_body,
)
from turnmill_worker.providers.healing import Bench, bench_of
from turnmill_worker.providers.http import RawAnswer
from turnmill_worker.providers.openai import chat

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Rejected),
        (401, Rejected),
        (404, Rejected),
        (408, MaybeSent),
        (409, ThreadLocked),
        (422, Rejected),
        (425, NotSent),
        (429, RateLimited),
        (499, MaybeSent),
        (500, MaybeSent),
        (502, MaybeSent),
        (503, Overloaded),
        (504, MaybeSent),
        (524, MaybeSent),
        (529, Overloaded),
        (301, Rejected),
    ],
)
def test_a_status_without_a_code_says_enough(status: int, kind: type[ProviderError]) -> None:
    error = error_of_status(status, headers={})
    assert (type(error), error.error_code) == (kind, f"http_{status}")


def test_a_known_code_decides_before_the_status() -> None:
    error = error_of_status(429, headers={}, codes=["insufficient_quota"])
    assert (type(error), error.error_code) == (Rejected, "insufficient_quota")


@pytest.mark.parametrize(
    ("status", "code", "asked", "kind"),
    [
        (400, "invalid_request_error", "true", NotSent),
        (400, "invalid_request_error", "false", Rejected),
        (400, "request_body_timeout", "", NotSent),
        (400, "context_length_exceeded", "true", Rejected),
        (401, "", "true", Rejected),
        (429, "insufficient_quota", "true", Rejected),
        (429, "rate_limit_exceeded", "false", RateLimited),
        (500, "", "false", MaybeSent),
    ],
)
def test_a_vendor_that_says_a_refusal_passes_is_asked_again(
    status: int, code: str, asked: str, kind: type[ProviderError]
) -> None:
    headers = Headers([(b"x-should-retry", asked.encode())] if asked else [])
    assert isinstance(error_of_status(status, headers=headers, codes=[code]), kind)


@pytest.mark.parametrize(
    "code",
    [
        *("organization_on_hold", "cmek_key_disabled", "cmek_key_network_blocked"),
        "claude_code_key_creator_not_member",
    ],
)
def test_what_no_turn_of_an_account_is_answered_for_is_of_the_account(code: str) -> None:
    body = {"error": {"type": "invalid_request_error", "details": {"error_code": code}}}
    answer = RawAnswer(400, {}, json.dumps(body).encode())
    error = refusal(answer, request_id="", codes=("details.error_code", "type"))
    assert (type(error), error.error_code, error.of_account) == (Rejected, code, True)
    assert bench_of(error, is_own=True) is Bench.PROVIDER_FOR_GOOD


@pytest.mark.parametrize("what", ["billing_unavailable", "spend_limit_reached"])
def test_what_one_profile_is_not_billed_for_closes_the_account_to_nobody_else(what: str) -> None:
    """Of a request whose `billing_policy` names a customer's: those without it are answered."""
    code = f"linked_organization_{what}"
    body = {"error": {"type": "billing_error", "details": {"error_code": code}}}
    answer = RawAnswer(402, {}, json.dumps(body).encode())
    error = refusal(answer, request_id="", codes=("details.error_code", "type"))
    assert (type(error), error.error_code, error.of_account) == (Rejected, code, False)
    assert bench_of(error, is_own=True) is None, "nobody else is to pay for it unasked"
    plain = refusal(RawAnswer(402, {}, b"{}"), request_id="", codes=("details.error_code", "type"))
    assert plain.of_account


@pytest.mark.parametrize("code", ["", None, 400, "what the user said", "x" * 65, "a\nb", ["a"]])
def test_what_is_no_code_never_becomes_one(code: object) -> None:
    assert safe_code(code) == ""


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"retry-after": "7"}, timedelta(seconds=7)),
        ({"retry-after": "0"}, timedelta(0)),
        ({"retry-after": "1.5"}, timedelta(seconds=1.5)),
        ({"retry-after-ms": "250", "retry-after": "9"}, timedelta(milliseconds=250)),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=30))}, timedelta(seconds=30)),
        ({"retry-after": format_datetime(NOW - timedelta(seconds=30))}, None),
        ({"retry-after": "1e12"}, timedelta(days=1)),
        ({"retry-after": "inf"}, timedelta(days=1)),
        ({"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"}, timedelta(days=1)),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "soon"}, None),
    ],
)
def test_the_wait_is_read_in_every_form(headers: dict[str, str], wait: timedelta | None) -> None:
    assert retry_after(headers, now=NOW) == wait


@pytest.mark.parametrize(
    "said",
    [(b"7", b"30"), (b"30", b"7"), (b"soon", b"30"), (b"5, 30", b"6")],
)
def test_of_two_headers_that_name_a_wait_the_longer_counts(said: tuple[bytes, bytes]) -> None:
    headers = Headers([(b"retry-after", one) for one in said])
    assert retry_after(headers, now=NOW) == timedelta(seconds=30)
    dates = [format_datetime(NOW + timedelta(seconds=one)).encode() for one in (3, 30)]
    later = Headers([(b"retry-after", one) for one in dates])
    assert retry_after(later, now=NOW) == timedelta(seconds=30)


@settings(deadline=None)  # a shared machine has its moments
@given(st.text(max_size=40))
def test_no_header_of_a_vendor_breaks_the_reading_of_the_wait(value: str) -> None:
    wait = retry_after({"retry-after": value, "retry-after-ms": value}, now=NOW)
    assert wait is None or timedelta(0) <= wait <= timedelta(days=1)


@settings(deadline=None)  # a shared machine has its moments
@given(st.binary(max_size=60))
def test_no_body_of_a_refusal_breaks_its_reading(body: bytes) -> None:
    assert isinstance(error_object_of(body), Mapping)
    assert isinstance(words_of_body(body), str)


@pytest.mark.parametrize("odd", [b"9" * 5_000, b"[" * 900 + b"]" * 900, b'{"a":' * 200 + b"1"])
@pytest.mark.parametrize("where", [b'{"error": {"message": %b}}', b'{"error": {"code": %b}}'])
async def test_no_value_in_an_error_breaks_its_reading(odd: bytes, where: bytes) -> None:
    odd += b"}" * odd.count(b"{")
    answer = RawAnswer(200, {}, where % odd)
    with pytest.raises(Rejected):
        await read(answer, partial(chat.reply_of, request_id=""))
    refused = answer._replace(status=400)
    error = refusal(refused, request_id="", codes=("code", "type"))
    assert (type(error), error.error_code) == (Rejected, "http_400")
    assert error.detail.strip("[{")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "no"}}', "no"),
        (b'{"message": "no"}', "no"),
        (b'[{"error": {"message": "no"}}]', "no"),
        (b'\xef\xbb\xbf{"error": {"message": "no"}}', "no"),
        ('{"error": {"message": "no"}}'.encode("utf-16"), "no"),
        (b'{"error": {"message": "no", "param": "\\ud83d"}}', "no"),
        (b"<html>", None),
        (b"[" * 100_000, None),
    ],
)
def test_an_error_is_found_in_whatever_form_a_server_puts_it(
    body: bytes, message: str | None
) -> None:
    assert error_object_of(body).get("message") == message
