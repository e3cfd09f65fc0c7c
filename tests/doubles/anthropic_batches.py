"""A stand-in for Anthropic that takes Message Batches: it refuses what the real one refuses.

https://platform.claude.com/docs/en/api/creating-message-batches and the guide beside it.
"""

import json
import re
import time
from datetime import UTC, datetime
from itertools import count
from typing import Any

from aiohttp import web

from tests.doubles.anthropic_server import AnthropicDouble, _authorised, check_message_body
from tests.doubles.batch_desk import BatchDesk, DeskBatch, DeskLine, Fate, answer_to
from tests.doubles.vendor_double import Call, Refused, run_as_process

LINES_MAX = 100_000
BYTES_MAX = 256 * 2**20

_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ERRORS = {
    "bad_request": "invalid_request_error",
    "server_error": "api_error",
    "rate_limited": "rate_limit_error",
}
_TYPES = {"": "succeeded", "expired": "expired", "canceled": "canceled"}


class AnthropicBatchesDouble(AnthropicDouble):
    """Echoes in batches, too: `echo: Hello`. A batch has no name: its results say whose it is."""

    def __init__(self, *, takes: float = 0.0, **given: Any) -> None:
        super().__init__(**given)
        self.desk = BatchDesk(takes=takes)
        self.deleted: list[str] = []
        self._ids = count(1)

    def routes(self) -> list[web.RouteDef]:
        through = self.through_faults
        return [
            web.post("/v1/messages/batches", through(self._begin)),
            web.get("/v1/messages/batches", through(self._listed)),
            web.get("/v1/messages/batches/{id}", through(self._look)),
            web.get("/v1/messages/batches/{id}/results", self._results),
            web.post("/v1/messages/batches/{id}/cancel", through(self._stop)),
            web.delete("/v1/messages/batches/{id}", through(self._remove)),
            web.get("/double/desk", self._told),
            *super().routes(),
        ]

    async def _begin(self, call: Call) -> dict[str, Any]:
        _authorised(call)
        if not isinstance(call.body, dict) or set(call.body) != {"requests"}:
            raise Refused(400, "invalid_request_error", "requests: Field required")
        lines = _lines(call.body["requests"])
        call.body = None
        batch = DeskBatch(
            id=f"msgbatch_{next(self._ids):08}",
            lines=lines,
            fate=self.desk.fates.popleft() if self.desk.fates else Fate(),
            tokens=0,
            begun=time.monotonic(),
        )
        self.desk.take(batch)
        return self._shown(batch)

    async def _listed(self, call: Call) -> dict[str, Any]:
        _authorised(call)
        found = [one for one in self.desk.listed() if one.id not in self.deleted]
        limit, after = int(call.query.get("limit", 20)), call.query.get("after_id")
        if not 1 <= limit <= 100:
            raise Refused(400, "invalid_request_error", "limit: out of range")
        ids = [one.id for one in found]
        start = ids.index(after) + 1 if after in ids else 0
        page = [self._shown(one) for one in found[start : start + limit]]
        return {
            "data": page,
            "has_more": start + limit < len(found),
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
        }

    async def _look(self, call: Call) -> dict[str, Any]:
        _authorised(call)
        return self._shown(self._found(call.path.rpartition("/")[2]))

    async def _stop(self, call: Call) -> dict[str, Any]:
        _authorised(call)
        batch = self._found(call.path.split("/")[-2])
        if batch.ended:
            raise Refused(400, "invalid_request_error", "The batch has ended.")
        self.desk.cancel(batch)
        return self._shown(batch)

    async def _remove(self, call: Call) -> dict[str, Any]:
        _authorised(call)
        batch = self._found(call.path.rpartition("/")[2])
        if not batch.ended:
            raise Refused(400, "invalid_request_error", "The batch is still processing.")
        self.deleted.append(batch.id)
        return {"id": batch.id, "type": "message_batch_deleted"}

    async def _results(self, request: web.Request) -> web.StreamResponse:
        batch = self._found(request.match_info["id"])
        if not batch.ended:
            return web.json_response(
                self.error_body(Refused(404, "not_found_error", "not yet")), status=404
            )
        response = web.StreamResponse(headers={"Content-Type": "application/binary"})
        await response.prepare(request)
        lines = [json.dumps(result_of(*one)).encode() + b"\n" for one in batch.results]
        for start in range(0, len(lines), 500):
            await response.write(b"".join(lines[start : start + 500]))
        await response.write_eof()
        return response

    def _found(self, ref: str) -> DeskBatch:
        batch = self.desk.find(ref)
        if batch is None or ref in self.deleted:
            raise Refused(404, "not_found_error", f"No batch {ref}")
        return batch

    def _shown(self, batch: DeskBatch) -> dict[str, Any]:
        results = f"{self.url}/v1/messages/batches/{batch.id}/results"
        outcomes = [outcome for _, outcome in batch.results]
        counts = {
            "processing": 0 if batch.ended else batch.total,
            "succeeded": outcomes.count(""),
            "errored": sum(one in _ERRORS for one in outcomes),
            "canceled": outcomes.count("canceled"),
            "expired": outcomes.count("expired"),
        }
        begun = datetime.fromtimestamp(time.time() - (time.monotonic() - batch.begun), UTC)
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": "ended" if batch.ended else "in_progress",
            "request_counts": counts,
            "created_at": begun.isoformat(),
            "results_url": results if batch.ended else None,
        }

    async def _told(self, _: web.Request) -> web.Response:
        return web.json_response(self.desk.told())


def _lines(requests: Any) -> list[DeskLine]:
    if not isinstance(requests, list) or not 0 < len(requests) <= LINES_MAX:
        raise Refused(400, "invalid_request_error", "requests: 1 to 100000")
    lines = []
    seen = set()
    for number, one in enumerate(requests):
        if set(one) != {"custom_id", "params"} or not _ID.fullmatch(one["custom_id"]):
            raise Refused(400, "invalid_request_error", f"requests.{number}.custom_id")
        if one["custom_id"] in seen:
            raise Refused(400, "invalid_request_error", "custom_id: must be unique")
        if one["params"].get("stream") or "speed" in one["params"]:
            raise Refused(400, "invalid_request_error", f"requests.{number}: not supported")
        seen.add(one["custom_id"])
        lines.append(DeskLine(custom_id=one["custom_id"], url="", body=one["params"]))
    return lines


def result_of(line: DeskLine, outcome: str) -> dict[str, Any]:
    """Return a line of results: what a call refuses is said only here."""
    if outcome in _ERRORS:
        return _errored(line, _ERRORS[outcome])
    if outcome:
        return {"custom_id": line.custom_id, "result": {"type": _TYPES[outcome]}}
    try:
        check_message_body(line.body)
    except Refused:
        return _errored(line, "invalid_request_error")
    message = {
        "id": f"msg_{line.custom_id[:8]}",
        "type": "message",
        "role": "assistant",
        "model": line.body["model"],
        "content": [{"type": "text", "text": answer_to(line.body)}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 100,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 10,
            "service_tier": "batch",
        },
    }
    return {"custom_id": line.custom_id, "result": {"type": "succeeded", "message": message}}


def _errored(line: DeskLine, kind: str) -> dict[str, Any]:
    error = {"type": "error", "error": {"type": kind, "message": "Scripted."}}
    return {"custom_id": line.custom_id, "result": {"type": "errored", "error": error}}


if __name__ == "__main__":
    run_as_process(AnthropicBatchesDouble)
