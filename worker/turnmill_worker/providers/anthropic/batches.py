"""Anthropic's Message Batches: https://platform.claude.com/docs/en/build-with-claude/batch-processing."""

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode

from turnmill.domain.errors import NotSent, Rejected
from turnmill.domain.uploads import UPLOAD_WITHIN
from turnmill_worker.providers.answers import read
from turnmill_worker.providers.anthropic import messages
from turnmill_worker.providers.anthropic.refusals import REQUEST_ID, refusal_of
from turnmill_worker.providers.batch_lines import (
    RESULTS_BYTES_MAX,
    answered,
    array_of,
    as_json,
    earliest,
    maybe_accepted,
    moment_of,
    reading,
)
from turnmill_worker.providers.batch_port import (
    SHARD_BYTES,
    TIER,
    UNSUPPORTED,
    Answered,
    Line,
    ShardBounds,
    Take,
    VendorBatch,
)
from turnmill_worker.providers.failures import safe_code
from turnmill_worker.providers.http import RawAnswer, Vendor, encoded
from turnmill_worker.providers.port import Done, Request
from turnmill_worker.providers.untrusted import Unreadable, count, mapping, mappings, name

_PATH = "v1/messages/batches"
_WITHIN = timedelta(minutes=1)
_READ_WITHIN = timedelta(hours=1)
_PAGE, _MOST_PAGES = 100, 50
_GONE = frozenset({400, 404, 409, 410})
_NO_SUCH_PATH = frozenset({404, 405, 501})
_ENDED = "ended"
#: What the vendor refuses in a batch.
_AT_ONCE = ("speed", "service_tier")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
#: The statuses that its errors have where they are answers to a call.
_STATUS: Mapping[str, int] = MappingProxyType(
    {
        "authentication_error": 401,
        "billing_error": 402,
        "permission_error": 403,
        "not_found_error": 404,
        "request_too_large": 413,
        "rate_limit_error": 429,
        "api_error": 500,
        "timeout_error": 504,
        "overloaded_error": 529,
    }
)


class AnthropicBatches:
    """The batches of one workspace. They have no names: only their results say whose they are."""

    stores = False
    knows_marks = False

    def __init__(self, vendor: Vendor) -> None:
        self._vendor = vendor
        self.bounds = ShardBounds(lines=100_000, bytes=SHARD_BYTES)

    def endpoint_of(self, request: Request) -> str:
        return messages.PATH

    def body_of(self, request: Request, custom_id: str) -> bytes:
        if not _ID.fullmatch(custom_id):
            raise Rejected("batch_id", detail=custom_id)
        params = messages.body_of(request)
        for one in _AT_ONCE:
            params.pop(one, None)
        return encoded({"custom_id": custom_id, "params": params})

    async def store(self, name: str, lines: Sequence[Line]) -> str:
        raise NotImplementedError("lines are sent with what begins them")

    async def stored(self, name: str, *, within: timedelta) -> list[str]:
        return []

    async def begin(
        self, mark: str, *, endpoint: str, stored: str, lines: Sequence[Line]
    ) -> VendorBatch:
        body = array_of(lines, before=b'{"requests":[', after=b"]}")
        with maybe_accepted():
            answer = await self._vendor.call("POST", _PATH, body, within=UPLOAD_WITHIN)
            if answer.status in _NO_SUCH_PATH:
                raise Rejected(UNSUPPORTED, detail="the server knows no batches")
            return await read(_accepted(answer), _batch_of, request_id=REQUEST_ID)

    async def find(self, mark: str, *, stored: str, within: timedelta) -> list[VendorBatch]:
        """Return all that began since: whose they are, their results say."""
        found: list[VendorBatch] = []
        further: Mapping[str, str] = {}
        for _ in range(_MOST_PAGES):
            asked = urlencode({"limit": _PAGE, **further})
            answer = await self._vendor.call("GET", f"{_PATH}?{asked}", within=_WITHIN)
            page = await read(_accepted(answer), lambda payload: payload, request_id=REQUEST_ID)
            some = [_batch_of(one) for one in mappings(page.get("data"))]
            since = earliest(answer, within)
            young = [one for one in some if one.created_at is None or one.created_at >= since]
            found += young
            if len(young) < len(some) or page.get("has_more") is not True or not some:
                return found
            further = {"after_id": some[-1].ref}
        raise NotSent("batches_too_many")  # nobody knows whether it is there

    async def look(self, ref: str) -> VendorBatch:
        answer = await self._vendor.call("GET", _path(ref), within=_WITHIN)
        return await read(_accepted(answer), _batch_of, request_id=REQUEST_ID)

    async def read(self, batch: VendorBatch, take: Take) -> None:
        if batch.outputs:
            path = f"{_path(batch.ref)}/results"
            answer = await self._vendor.stream(
                path,
                None,
                reading(_answered, take),
                within=_READ_WITHIN,
                method="GET",
                most=RESULTS_BYTES_MAX,
            )
            _accepted(answer)

    async def cancel(self, ref: str) -> None:
        answer = await self._vendor.call("POST", f"{_path(ref)}/cancel", within=_WITHIN)
        if answer.status not in _GONE:
            _accepted(answer)

    async def clear(self, batch: VendorBatch | None, *, stored: Sequence[str]) -> None:
        if batch is None:
            return
        answer = await self._vendor.call("DELETE", _path(batch.ref), within=_WITHIN)
        if answer.status not in _GONE:
            _accepted(answer)


def _path(ref: str) -> str:
    return f"{_PATH}/{quote(ref, safe='')}"


def _accepted(answer: RawAnswer) -> RawAnswer:
    if not answer.accepted:
        raise refusal_of(answer)
    return answer


def _batch_of(payload: Mapping[str, Any]) -> VendorBatch:
    if not (ref := name(payload.get("id"))):
        raise Unreadable
    status = name(payload.get("processing_status"))
    counts = {name: count(one) or 0 for name, one in mapping(payload.get("request_counts")).items()}
    results = name(payload.get("results_url"))
    return VendorBatch(
        ref=ref,
        status=status,
        is_over=status == _ENDED,
        total=sum(counts.values()) or None,
        results=sum(counts.values()) - counts.get("processing", 0),
        outputs=(results,) if results else (),
        created_at=moment_of(payload.get("created_at")),
    )


async def _answered(payload: Mapping[str, Any]) -> Answered | None:
    return await answered(payload, _said)


async def _said(payload: Mapping[str, Any]) -> Done:
    result = mapping(payload.get("result"))
    kind = safe_code(result.get("type"))
    if kind == "errored":
        error = mapping(result.get("error"))
        inner = mapping(error.get("error")) or error
        status = _STATUS.get(name(inner.get("type")), 400)
        raise refusal_of(RawAnswer(status, {}, as_json({"type": "error", "error": inner})))
    if kind != "succeeded":
        raise NotSent(f"batch_{kind or 'line_unanswered'}"[:64])
    message = mapping(result.get("message"))
    usage = {**mapping(message.get("usage")), "service_tier": TIER}
    payload = {**message, "usage": usage} if message.get("usage") is not None else dict(message)
    answer = RawAnswer(200, {}, b"", payload=payload)
    return await read(answer, lambda said: messages.reply_of(said, request_id=""))
