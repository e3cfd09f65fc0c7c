"""OpenAI's batches: https://platform.openai.com/docs/guides/batch, a file in and a file out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

from turnmill.domain.errors import NotSent, Rejected
from turnmill.domain.uploads import UPLOAD_WITHIN
from turnmill_worker.providers.answers import read
from turnmill_worker.providers.batch_lines import (
    RESULTS_BYTES_MAX,
    answered,
    as_json,
    earliest,
    file_of,
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
from turnmill_worker.providers.multipart import form
from turnmill_worker.providers.openai import chat, responses
from turnmill_worker.providers.openai.keeping import CONVERSATION, api_of, kind_of
from turnmill_worker.providers.openai.refusals import REQUEST_ID, refusal_of
from turnmill_worker.providers.port import Done, Request
from turnmill_worker.providers.untrusted import Unreadable, count, mapping, mappings, name

_PATH = "batches"
_FILES = "files"
_WITHIN = timedelta(minutes=1)
_READ_WITHIN = timedelta(hours=1)
#: The vendor deletes what it keeps of a batch by itself after this, should nobody else do so.
_KEPT_SECONDS = int(timedelta(days=7).total_seconds())
_PAGE, _MOST_PAGES = 100, 50
#: The key of a batch's metadata that holds our mark.
_MARK = "turnmill_shard"
_GONE = frozenset({400, 404, 409, 410})
_OVER = frozenset({"cancelled", "completed", "expired", "failed"})
#: What is said of a call that comes at once, and of no line of a batch.
_AT_ONCE = ("background", "service_tier", "stream", "stream_options")
#: Of a server that speaks no other part of the API.
_NO_SUCH_PATH = frozenset({404, 405, 501})

_RESPONSE = partial(responses.reply_of, chain=False)


class OpenAIBatches:
    """The batches of one account."""

    stores = True
    knows_marks = True

    def __init__(self, vendor: Vendor, *, window: int | None) -> None:
        """`window`: so many tokens may be waiting at the vendor; it depends on the account."""
        self._vendor = vendor
        self.bounds = ShardBounds(lines=50_000, bytes=SHARD_BYTES, window=window)

    def endpoint_of(self, request: Request) -> str:
        if kind_of(request) == CONVERSATION:
            raise Rejected("batch_thread", hint="a conversation takes one call after the other")
        return f"/v1/{chat.PATH if api_of(request) == 'chat' else responses.PATH}"

    def body_of(self, request: Request, custom_id: str) -> bytes:
        alone = replace(request, thread_ref="", native_ref="")
        if api_of(request) == "chat":
            body = chat.body_of(alone)
        else:
            body = responses.body_of(alone, chain=False, store=False)
        for one in _AT_ONCE:
            body.pop(one, None)
        line = {"custom_id": custom_id, "method": "POST", "url": self.endpoint_of(request)}
        return encoded({**line, "body": body})

    async def store(self, name: str, lines: Sequence[Line]) -> str:
        fields = {
            "purpose": "batch",
            "expires_after[anchor]": "created_at",
            "expires_after[seconds]": str(_KEPT_SECONDS),
        }
        body = form(fields, file=file_of(name, lines))
        with maybe_accepted():
            answer = await self._vendor.call("POST", _FILES, body, within=UPLOAD_WITHIN)
            if answer.status in _NO_SUCH_PATH:
                raise Rejected(UNSUPPORTED, detail="the server keeps no files")
            return await read(_accepted(answer), _ref_of, request_id=REQUEST_ID)

    async def stored(self, name: str, *, within: timedelta) -> list[str]:
        query = {"purpose": "batch", "order": "desc"}
        listed = await self._listed(_FILES, query, within=within)
        return [ref for one in listed if one.get("filename") == name and (ref := _ref(one))]

    async def begin(
        self, mark: str, *, endpoint: str, stored: str, lines: Sequence[Line]
    ) -> VendorBatch:
        body = {
            "input_file_id": stored,
            "endpoint": endpoint,
            "completion_window": "24h",
            "metadata": {_MARK: mark},
            "output_expires_after": {"anchor": "created_at", "seconds": _KEPT_SECONDS},
        }
        with maybe_accepted():
            answer = await self._vendor.call("POST", _PATH, encoded(body), within=_WITHIN)
            return await read(_accepted(answer), _batch_of, request_id=REQUEST_ID)

    async def find(self, mark: str, *, stored: str, within: timedelta) -> list[VendorBatch]:
        return [
            _batch_of(one)
            for one in await self._listed(_PATH, {}, within=within)
            if mapping(one.get("metadata")).get(_MARK) == mark
            or (stored and one.get("input_file_id") == stored)
        ]

    async def look(self, ref: str) -> VendorBatch:
        answer = await self._vendor.call("GET", _path(_PATH, ref), within=_WITHIN)
        return await read(_accepted(answer), _batch_of, request_id=REQUEST_ID)

    async def read(self, batch: VendorBatch, take: Take) -> None:
        for output in batch.outputs:
            path = f"{_path(_FILES, output)}/content"
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
        answer = await self._vendor.call("POST", f"{_path(_PATH, ref)}/cancel", within=_WITHIN)
        if answer.status not in _GONE:
            _accepted(answer)

    async def clear(self, batch: VendorBatch | None, *, stored: Sequence[str]) -> None:
        for ref in dict.fromkeys((*stored, *(batch.outputs if batch else ()))):
            answer = await self._vendor.call("DELETE", _path(_FILES, ref), within=_WITHIN)
            if answer.status not in _GONE:
                _accepted(answer)

    async def _listed(
        self, path: str, query: Mapping[str, str], *, within: timedelta
    ) -> list[Mapping[str, Any]]:
        """Return what there is, the newest first, until it is older than that."""
        found: list[Mapping[str, Any]] = []
        further: Mapping[str, str] = {}
        for _ in range(_MOST_PAGES):
            asked = urlencode({**query, "limit": _PAGE, **further})
            answer = await self._vendor.call("GET", f"{path}?{asked}", within=_WITHIN)
            page = await read(_accepted(answer), lambda payload: payload, request_id=REQUEST_ID)
            some = mappings(page.get("data"))
            found += some
            oldest = moment_of(some[-1].get("created_at")) if some else None
            if not some or page.get("has_more") is not True:
                return found
            if oldest is not None and oldest < earliest(answer, within):
                return found
            further = {"after": _ref(some[-1])}
        raise NotSent("batches_too_many")  # nobody knows whether it is there


def _path(path: str, ref: str) -> str:
    return f"{path}/{quote(ref, safe='')}"


def _accepted(answer: RawAnswer) -> RawAnswer:
    if answer.status in _NO_SUCH_PATH and not answer.body.strip().startswith(b"{"):
        raise Rejected(UNSUPPORTED, detail="the server knows no batches")
    if not answer.accepted:
        raise refusal_of(answer)
    return answer


def _ref(payload: Mapping[str, Any]) -> str:
    return name(payload.get("id"))


def _ref_of(payload: Mapping[str, Any]) -> str:
    if not (found := _ref(payload)):
        raise Unreadable
    return found


def _batch_of(payload: Mapping[str, Any]) -> VendorBatch:
    """Read a batch. A file that it has none of is told as null, or as a name without letters."""
    status = name(payload.get("status"))
    errors = mappings(mapping(payload.get("errors")).get("data")) if status == "failed" else []
    outputs = (name(payload.get(f"{one}_file_id")) for one in ("output", "error"))
    counts = mapping(payload.get("request_counts"))
    return VendorBatch(
        ref=_ref_of(payload),
        status=status,
        is_over=status in _OVER,
        total=count(counts.get("total")) or None,
        results=sum(count(counts.get(one)) or 0 for one in ("completed", "failed")),
        error_code=_first_code(errors) if status == "failed" else "",
        bad_lines={number: _code(one) for one in errors if (number := _line_of(one))},
        outputs=tuple(filter(None, outputs)),
        stored=name(payload.get("input_file_id")),
        created_at=moment_of(payload.get("created_at")),
    )


def _first_code(errors: Sequence[Mapping[str, Any]]) -> str:
    whole = [one for one in errors if not _line_of(one)]
    return next((_code(one) for one in (*whole, *errors)), "batch_failed")


def _code(error: Mapping[str, Any]) -> str:
    return safe_code(error.get("code")) or "batch_failed"


def _line_of(error: Mapping[str, Any]) -> int:
    number = error.get("line")
    return number if isinstance(number, int) and not isinstance(number, bool) and number > 0 else 0


async def _answered(payload: Mapping[str, Any]) -> Answered | None:
    return await answered(payload, _said)


async def _said(payload: Mapping[str, Any]) -> Done:
    """Read a line of results: what it says is in its response, whatever `error` says beside it."""
    response = mapping(payload.get("response"))
    status = response.get("status_code")
    if not isinstance(status, int) or not 100 <= status < 600:
        error = mapping(payload.get("error"))
        raise NotSent(safe_code(error.get("code")) or "batch_line_unanswered")
    body = {**mapping(response.get("body")), "service_tier": TIER}  # which it says in no line
    request_id = name(response.get("request_id"))
    headers = {REQUEST_ID: request_id}
    if not 200 <= status < 300:
        raise refusal_of(RawAnswer(status, headers, as_json(body)))
    reply_of = chat.reply_of if body.get("object") == "chat.completion" else _RESPONSE
    answer = RawAnswer(status, headers, b"", payload=body)
    reply = await read(answer, partial(reply_of, request_id=request_id), request_id=REQUEST_ID)
    if not isinstance(reply, Done):
        raise NotSent("batch_line_unanswered")
    return reply
