"""What a refused call to a vendor means: come again, find out what happened, or give up."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any

from pydantic_core import from_json

from turnmill.domain.errors import (
    MaybeSent,
    Overloaded,
    ProviderError,
    RateLimited,
    Rejected,
    ThreadLocked,
)

#: By HTTP status. The other 5xx may have been executed, all else is refused for good.
BY_STATUS: Mapping[int, type[ProviderError]] = MappingProxyType(
    {
        408: MaybeSent,
        409: ThreadLocked,
        429: RateLimited,
        503: Overloaded,
        529: Overloaded,  # Anthropic's own, for "overloaded"
    }
)

_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_DETAIL_MAX = 2_000
_WAIT_MAX = timedelta(days=1)


def error_of_status(
    status: int,
    *,
    headers: Mapping[str, str],
    code: object = "",
    detail: str = "",
    request_id: str = "",
    by_code: Mapping[str, type[ProviderError]] = MappingProxyType({}),
) -> ProviderError:
    """Return the error that an HTTP answer other than 2xx stands for.

    The vendor's `code` decides before the status does: `insufficient_quota` is a 429 that no
    waiting heals.
    """
    known = safe_code(code)
    kind = by_code.get(known) or BY_STATUS.get(status)
    if kind is None:
        kind = MaybeSent if status >= 500 else Rejected
    return kind(
        known or f"http_{status}",
        detail=detail[:_DETAIL_MAX],
        retry_after=retry_after(headers, now=datetime.now(UTC)),
        request_id=request_id,
    )


def safe_code(code: object) -> str:
    """Return a vendor's error code, or "" when it is no code: it goes to logs and labels."""
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""


def retry_after(headers: Mapping[str, str], *, now: datetime) -> timedelta | None:
    """Return the wait that the vendor asks for, or None when it names none that makes sense.

    `retry-after-ms` is finer than `Retry-After`, which holds seconds or a date (RFC 9110, 10.2.3).
    More than a day counts as a day.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        seconds = _number(headers.get(name)) * unit
        if seconds >= 0:
            return min(timedelta(seconds=min(seconds, 1e6)), _WAIT_MAX)
    try:
        due = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    due = due if due.tzinfo else due.replace(tzinfo=UTC)
    return min(max(due - now, timedelta(0)), _WAIT_MAX)


def payload_of(body: bytes, *, request_id: str = "") -> dict[str, Any]:
    """Parse the body of a successful answer; what is no JSON object may yet have been executed."""
    try:
        payload = from_json(body)
    except ValueError:
        payload = None
    if not isinstance(payload, dict):
        raise MaybeSent("bad_json", request_id=request_id)
    return payload


def error_object_of(body: bytes) -> Mapping[str, Any]:
    """Return the `error` object of a refusal's body, or {} when there is none.

    A proxy answers with HTML, and some servers put the fields at the top.
    """
    try:
        payload = from_json(body)
    except ValueError:
        return {}
    error = payload.get("error", payload) if isinstance(payload, dict) else {}
    return error if isinstance(error, dict) else {"message": str(error)}


def _number(value: str | None) -> float:
    try:
        number = float(value) if value is not None else -1.0
    except ValueError:
        return -1.0
    return -1.0 if math.isnan(number) else number
