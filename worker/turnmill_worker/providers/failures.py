"""What a refused call to a vendor means: come again, find out what happened, or give up.

Classes come from statuses, codes and types. A vendor's message may quote the user: it is kept with
the attempt, and decides nothing but whether a conversation is to be made shorter or plainer.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any

from pydantic_core import from_json

from turnmill.domain.errors import (
    MaybeSent,
    NotSent,
    Overloaded,
    ProviderError,
    RateLimited,
    Rejected,
    ThreadLocked,
    Unreachable,
)
from turnmill_worker.http1.answer import Headers
from turnmill_worker.providers.causes import account_in, cause_of
from turnmill_worker.providers.untrusted import mapping, mappings

#: By HTTP status. The other 5xx may have been executed, all else is refused for good.
BY_STATUS: Mapping[int, type[ProviderError]] = MappingProxyType(
    {
        408: MaybeSent,
        409: ThreadLocked,
        425: NotSent,
        429: RateLimited,
        499: MaybeSent,  # "we have hung up", and that is not so: somebody in between has
        503: Overloaded,
        529: Overloaded,  # Anthropic's own, for "overloaded"
    }
)

#: Codes and types of both vendors that tell more than the status that they come with.
BY_CODE: Mapping[str, type[ProviderError]] = MappingProxyType(
    {
        "billing_hard_limit_reached": Rejected,
        "billing_not_active": Rejected,
        "contract_spend_limit_reached": Rejected,
        "conversation_locked": ThreadLocked,
        "enforced_spend_limit_reached": Rejected,
        "insufficient_quota": Rejected,
        "overloaded": Overloaded,
        "overloaded_error": Overloaded,
        "rate_limit_error": RateLimited,
        "rate_limit_exceeded": RateLimited,
        "request_body_timeout": NotSent,  # a 400 of Anthropic's: not all of it came in time
    }
)

#: Of the account, whatever was asked: no waiting heals it, but somebody may.
_OF_ACCOUNT = frozenset(
    {
        "account_deactivated",
        "account_inactive",
        "authentication_error",
        "billing_error",
        "billing_hard_limit_reached",
        "billing_not_active",
        "claude_code_key_creator_not_member",
        "cmek_key_disabled",
        "cmek_key_network_blocked",
        "contract_spend_limit_reached",
        "enforced_spend_limit_reached",
        "insufficient_credits",
        "insufficient_quota",
        "invalid_api_key",
        "organization_deactivated",
        "organization_on_hold",
    }
)
_STATUSES_OF_ACCOUNT = frozenset({401, 402})
#: Of whom a request is billed to by the profile that it names: other requests are not.
_OF_A_PROFILE = frozenset(
    {"linked_organization_billing_unavailable", "linked_organization_spend_limit_reached"}
)
#: How a vendor says it where its code says little, in lower case.
_NO_CREDIT = "your credit balance is too low"

#: An error inside a 200 has no status of its own; these codes and types stand for one.
STATUS_OF: Mapping[str, int] = MappingProxyType(
    {
        "api_error": 500,
        "billing_error": 402,
        "deadline_exceeded": 504,
        "engine_overloaded": 503,
        "insufficient_credits": 402,
        "internal": 500,
        "internal_error": 500,
        "internal_server_error": 500,
        "overloaded": 503,
        "overloaded_error": 529,
        "rate_limit_error": 429,
        "rate_limit_exceeded": 429,
        "rate_limited": 429,
        "resource_exhausted": 429,
        "server_error": 500,
        "server_overloaded": 503,
        "service_unavailable": 503,
        "timeout": 504,
        "timeout_error": 504,
        "too_many_requests": 429,
        "unavailable": 503,
        "upstream_error": 502,
    }
)

#: Codes of ours, of a call that may have been executed.
_OF_CALLS: Mapping[str, type[ProviderError]] = MappingProxyType(
    {
        **dict.fromkeys(("disconnected", "timeout", "truncated", "turn_timeout"), MaybeSent),
        **dict.fromkeys(("connect_timeout", "unreachable"), Unreachable),
    }
)

_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
#: Statuses that say more than a code that says little.
_CODE_OF_STATUS: Mapping[int, str] = MappingProxyType(
    {402: "insufficient_credits"} | {status: f"http_{status}" for status in (401, 403, 404, 410)}
)

_SAYS_NOTHING = frozenset({"", "about:blank", "error"})
_SAYS_LITTLE = frozenset({"invalid_request_error", "unknown_error"})

#: Where vendors put the words.
_WORDS = ("title", "message", "msg", "detail", "error", "error_description", "errors")

DETAIL_MAX = 2_000
#: The longest wait that is obeyed; a longer one counts as this long.
WAIT_MAX = timedelta(days=1)


def error_of_status(
    status: int,
    *,
    headers: Mapping[str, str],
    codes: Sequence[object] = (),
    detail: str = "",
    request_id: str = "",
) -> ProviderError:
    """Return the error that an HTTP answer other than 2xx stands for.

    The first of the vendor's `codes` that is one decides before the status does:
    `insufficient_quota` is a 429 that no waiting heals. Where neither says that something passes,
    both vendors' own header may, which their SDKs obey.
    """
    known = next((one for one in map(safe_code, codes) if one not in _SAYS_NOTHING), "")
    if known in _SAYS_LITTLE and status in _CODE_OF_STATUS:
        known = ""
    if status == 400 and detail[: len(_NO_CREDIT)].lower() == _NO_CREDIT:
        known = "insufficient_credits"
    kind = BY_CODE.get(known) or BY_STATUS.get(status)
    if about := cause_of(status, known, detail):
        kind, known = about, about.code  # a code that stays, whoever says it
    elif closed := account_in(status, known, detail):
        kind, known = Rejected, closed
    if kind is None:
        kind = MaybeSent if status >= 500 else Rejected
        if kind is Rejected and headers.get("x-should-retry", "").lower() == "true":
            kind = Rejected if status in _STATUSES_OF_ACCOUNT else NotSent
    of_account = known in _OF_ACCOUNT or (
        status in _STATUSES_OF_ACCOUNT and known not in _OF_A_PROFILE
    )
    return kind(
        known or _CODE_OF_STATUS.get(status) or f"http_{status}",
        detail=detail[:DETAIL_MAX],
        retry_after=retry_after(headers, now=datetime.now(UTC)),
        request_id=request_id,
        answered=True,
        of_account=of_account and kind is Rejected,
    )


def class_of(code: str) -> type[ProviderError] | None:
    """Return the class of an attempt's error by its code, where that was a temporary one."""
    if kind := BY_CODE.get(code):
        return kind if kind is not Rejected else None
    status = STATUS_OF.get(code.lower()) or _status_in_code(code)
    if status is not None:
        return BY_STATUS.get(status) or (MaybeSent if status >= 500 else None)
    return _OF_CALLS.get(code)


def _status_in_code(code: str) -> int | None:
    status = code.removeprefix("http_")
    return int(status) if status != code and status.isdecimal() else None


def raise_error_inside(payload: Mapping[str, Any]) -> None:
    """Raise what the error in a 200 stands for, where it tells of one."""
    for holder in (payload, *mappings(payload.get("choices"))[:1]):
        if error := holder.get("error"):
            raise error_of_inside(error if isinstance(error, dict) else {"message": error})
    if payload.get("type") == "error" or payload.get("object") == "error":
        raise error_of_inside(payload)


def error_of_inside(error: Mapping[str, Any]) -> ProviderError:
    """Return what an error inside a 200 stands for: the same as with the status that it names."""
    codes = [error.get(name) for name in ("code", "status", "type")]
    codes.insert(0, mapping(error.get("details")).get("error_code"))  # Anthropic's finest
    named = [code for code in codes if safe_code(code) and not str(code).isdecimal()]
    status = status_in(error)
    return error_of_status(
        status or 400,
        headers={},
        codes=[*named, "" if status else "error_in_reply"],
        detail=words_of(error) or _as_words(error),
    )


def status_in(error: Mapping[str, Any]) -> int | None:
    """Return the HTTP status that an error object names, as a number or by its code or type."""
    codes = (error.get(name) for name in ("code", "status", "type"))
    return next(filter(None, map(_status_of, codes)), None)


def safe_code(code: object) -> str:
    """Return a vendor's error code, or "" when it is no code: it goes to logs and labels."""
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""


def retry_after(headers: Mapping[str, str], *, now: datetime) -> timedelta | None:
    """Return the wait that the vendor asks for, or None when it names none that makes sense.

    `retry-after-ms` is finer than `Retry-After`, which holds seconds or a date (RFC 9110, 10.2.3).
    A date counts from the answer's own `Date`, since our clock may be another one. Of several the
    longest counts, and more than WAIT_MAX counts as that.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        seconds = max(map(_longest, _said(headers, name))) * unit
        if seconds >= 0:
            return min(timedelta(seconds=min(seconds, 1e6)), WAIT_MAX)
    dues = filter(None, map(moment_in, _said(headers, "retry-after")))
    due = max(dues, default=None)
    wait = due - (moment_in(headers.get("date", "")) or now) if due else timedelta(0)
    return min(wait, WAIT_MAX) if wait > timedelta(0) else None


def _said(headers: Mapping[str, str], name: str) -> Sequence[str]:
    """Return every value of a header, which a proxy may have added to the vendor's."""
    found = headers.all_of(name) if isinstance(headers, Headers) else ()
    return found or (headers.get(name, ""),)


def error_object_of(body: bytes) -> Mapping[str, Any]:
    """Return the `error` object of a refusal's body, or {} when there is none.

    Some servers put the fields at the top, and some answer with a list of one.
    """
    payload = _parsed(body)
    if isinstance(payload, list):
        payload = next(iter(mappings(payload)), None)
    top = mapping(payload)
    return mapping(top.get("error")) or top


def words_of_body(body: bytes) -> str:
    """Return the vendor's words in a refusal, whatever its shape: at worst its beginning."""
    return words_of(_parsed(body)) or body[:DETAIL_MAX].decode(errors="replace").strip()


def words_of(value: object) -> str:
    """Return the words in an error, in whatever shape a vendor has put them; "" when none."""
    if isinstance(value, list):
        value = next((one for one in value if isinstance(one, dict)), None)
    if not isinstance(value, dict):
        return ""
    holder = mapping(value.get("error")) or value
    found = [_as_words(holder[name]) for name in _WORDS if holder.get(name)]
    return ": ".join(filter(None, dict.fromkeys(found)))[:DETAIL_MAX]


def _as_words(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        return ""  # too deep, or a number of thousands of digits: the body itself is kept then


def _status_of(code: object) -> int | None:
    if isinstance(code, str) and not code.isdecimal():
        return STATUS_OF.get(code.lower())
    if isinstance(code, str) and len(code) == 3:
        code = int(code)
    return code if isinstance(code, int) and 400 <= code <= 599 else None


def _parsed(body: bytes) -> Any:
    for parse in (from_json, json.loads):  # the second takes a byte order mark, and surrogates
        with suppress(ValueError, RecursionError):
            return parse(body)
    return None


def _longest(value: str) -> float:
    """Return the largest number of a list of them, or -1 where none is a wait."""
    return max(map(_number, value.split(",")), default=-1.0)


def _number(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        return -1.0
    return -1.0 if math.isnan(number) else number


def moment_in(value: str) -> datetime | None:
    """Return the moment that a header such as Date holds; None where it holds none."""
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
