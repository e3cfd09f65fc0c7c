"""Anthropic's Message Batches: https://platform.claude.com/docs/en/build-with-claude/batch-processing."""

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from turnmill.domain.errors import NotSent, Rejected
from turnmill.domain.uploads import UPLOAD_WITHIN
from turnmill_worker.providers.answers import read
from turnmill_worker.providers.anthropic import messages
from turnmill_worker.providers.anthropic.refusals import REQUEST_ID, refusal_of
from turnmill_worker.providers.batch_calls import BatchCalls, BatchesApi, path_of
from turnmill_worker.providers.batch_lines import array_of, as_json, maybe_accepted
from turnmill_worker.providers.batch_port import (
    SHARD_BYTES,
    TIER,
    UNSUPPORTED,
    Line,
    ShardBounds,
    VendorBatch,
)
from turnmill_worker.providers.failures import safe_code
from turnmill_worker.providers.http import RawAnswer, Vendor, encoded
from turnmill_worker.providers.port import Done, Request
from turnmill_worker.providers.untrusted import Unreadable, count, mapping, moment, name
from turnmill_worker.providers.usages import used_at_anthropic

_PATH = "v1/messages/batches"
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


class AnthropicBatches(BatchCalls):
    """The batches of one workspace. They have no names: only their results say whose they are."""

    stores = False
    knows_marks = False

    def __init__(self, vendor: Vendor) -> None:
        super().__init__(vendor, _API)
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
            return await self._read(answer, _batch_of)

    async def find(self, mark: str, *, stored: str, within: timedelta) -> list[VendorBatch]:
        """Return all that began since: whose they are, their results say."""
        found, since = await self._listed(_PATH, {}, _batch_of, within=within)
        return [one for one in found if one.created_at is None or one.created_at >= since]


def _results_of(batch: VendorBatch) -> list[str]:
    return [f"{path_of(_PATH, batch.ref)}/results"] if batch.outputs else []


def _kept_of(batch: VendorBatch | None, stored: Sequence[str]) -> list[str]:
    return [path_of(_PATH, batch.ref)] if batch else []


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
        created_at=moment(payload.get("created_at")),
    )


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
    return await read(
        answer, lambda said: messages.reply_of(said, request_id=""), used_in=used_at_anthropic
    )


_API = BatchesApi(
    path=_PATH,
    request_id=REQUEST_ID,
    next_page="after_id",
    refusal=refusal_of,
    batch=_batch_of,
    said=_said,
    results=_results_of,
    kept=_kept_of,
)
