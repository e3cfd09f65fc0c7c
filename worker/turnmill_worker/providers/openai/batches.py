"""OpenAI's batches: https://platform.openai.com/docs/guides/batch, a file in and a file out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from turnmill.domain.errors import NotSent, ProviderError, Rejected
from turnmill.domain.uploads import UPLOAD_WITHIN
from turnmill_worker.providers.answers import read
from turnmill_worker.providers.batch_calls import WITHIN, BatchCalls, BatchesApi, path_of
from turnmill_worker.providers.batch_lines import as_json, file_of, maybe_accepted
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
from turnmill_worker.providers.multipart import form
from turnmill_worker.providers.openai import chat, responses
from turnmill_worker.providers.openai.keeping import CONVERSATION, api_of, kind_of
from turnmill_worker.providers.openai.refusals import REQUEST_ID, refusal_of
from turnmill_worker.providers.port import Done, Request
from turnmill_worker.providers.untrusted import Unreadable, count, mapping, mappings, moment, name
from turnmill_worker.providers.usages import used_at_openai

_PATH = "batches"
_FILES = "files"
#: The vendor deletes what it keeps of a batch by itself after this, should nobody else do so.
_KEPT_SECONDS = int(timedelta(days=7).total_seconds())
#: The key of a batch's metadata that holds our mark.
_MARK = "turnmill_shard"
_OVER = frozenset({"cancelled", "completed", "expired", "failed"})
#: What is said of a call that comes at once, and of no line of a batch.
_AT_ONCE = ("background", "service_tier", "stream", "stream_options")
#: Of a server that speaks no other part of the API.
_NO_SUCH_PATH = frozenset({404, 405, 501})

_RESPONSE = partial(responses.reply_of, chain=False)


class OpenAIBatches(BatchCalls):
    """The batches of one account. They are made of files, and each has our mark."""

    stores = True
    knows_marks = True

    def __init__(self, vendor: Vendor, *, window: int | None) -> None:
        """`window`: so many tokens may be waiting at the vendor; it depends on the account."""
        super().__init__(vendor, _API)
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
            return await self._read(answer, _ref_of)

    async def stored(self, name: str, *, within: timedelta) -> list[str]:
        def read_one(file: Mapping[str, Any]) -> str:
            return _ref_of(file) if file.get("filename") == name else ""

        query = {"purpose": "batch", "order": "desc"}
        found, _ = await self._listed(_FILES, query, read_one, within=within)
        return [ref for ref in found if ref]

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
            answer = await self._vendor.call("POST", _PATH, encoded(body), within=WITHIN)
            return await self._read(answer, _batch_of)

    async def find(self, mark: str, *, stored: str, within: timedelta) -> list[VendorBatch]:
        def read_one(batch: Mapping[str, Any]) -> VendorBatch | None:
            is_marked = mapping(batch.get("metadata")).get(_MARK) == mark
            made_of = stored and batch.get("input_file_id") == stored
            return _batch_of(batch) if is_marked or made_of else None

        found, _ = await self._listed(_PATH, {}, read_one, within=within)
        return [one for one in found if one is not None]


def _refusal_of(answer: RawAnswer) -> ProviderError:
    if answer.status in _NO_SUCH_PATH and not answer.body.strip().startswith(b"{"):
        return Rejected(UNSUPPORTED, detail="the server knows no batches")
    return refusal_of(answer)


def _results_of(batch: VendorBatch) -> list[str]:
    return [f"{path_of(_FILES, output)}/content" for output in batch.outputs]


def _kept_of(batch: VendorBatch | None, stored: Sequence[str]) -> list[str]:
    return [path_of(_FILES, ref) for ref in (*stored, *(batch.outputs if batch else ()))]


def _ref_of(payload: Mapping[str, Any]) -> str:
    if not (found := name(payload.get("id"))):
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
        created_at=moment(payload.get("created_at")),
    )


def _first_code(errors: Sequence[Mapping[str, Any]]) -> str:
    whole = [one for one in errors if not _line_of(one)]
    return next((_code(one) for one in (*whole, *errors)), "batch_failed")


def _code(error: Mapping[str, Any]) -> str:
    return safe_code(error.get("code")) or "batch_failed"


def _line_of(error: Mapping[str, Any]) -> int:
    number = error.get("line")
    return number if isinstance(number, int) and not isinstance(number, bool) and number > 0 else 0


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
    reply = await read(
        answer,
        partial(reply_of, request_id=request_id),
        request_id=REQUEST_ID,
        used_in=used_at_openai,
    )
    if not isinstance(reply, Done):
        raise NotSent("batch_line_unanswered")
    return reply


_API = BatchesApi(
    path=_PATH,
    request_id=REQUEST_ID,
    next_page="after",
    refusal=_refusal_of,
    batch=_batch_of,
    said=_said,
    results=_results_of,
    kept=_kept_of,
)
