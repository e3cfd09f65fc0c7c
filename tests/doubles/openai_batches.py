"""A stand-in for OpenAI that takes batches: it refuses what the real one refuses.

https://platform.openai.com/docs/api-reference/batch and the guide beside it.
"""

import json
import time
from itertools import count
from typing import Any

from aiohttp import web

from tests.doubles.batch_desk import BatchDesk, DeskBatch, DeskLine, Fate, answer_to, tokens_of
from tests.doubles.openai_bodies import CHAT_PARAMETERS, RESPONSE_PARAMETERS
from tests.doubles.openai_requests import authorised, object_of
from tests.doubles.openai_server import OpenAIDouble
from tests.doubles.vendor_double import Call, Refused, run_as_process

LINES_MAX = 50_000
BYTES_MAX = 200 * 2**20
ENDPOINTS = {"/v1/responses": RESPONSE_PARAMETERS, "/v1/chat/completions": CHAT_PARAMETERS}

_CREATE = frozenset(
    {"input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after"}
)
_FAULTS = {
    "bad_request": (400, "invalid_value"),
    "server_error": (500, "server_error"),
    "rate_limited": (429, "rate_limit_exceeded"),
}


class OpenAIBatchesDouble(OpenAIDouble):
    """Echoes in batches, too: `echo: Hello`."""

    def __init__(self, *, takes: float = 0.0, window: int | None = 2_000_000, **given: Any) -> None:
        super().__init__(**given)
        self.desk = BatchDesk(takes=takes, window=window)
        self.models = frozenset({"gpt-4.1-mini", "gpt-4o-mini", "gpt-5-mini"})
        self.inputs: dict[str, tuple[str, bytes, float]] = {}  #: name, content, when
        self.outputs: dict[str, list[bytes]] = {}
        self._ids = count(1)

    def routes(self) -> list[web.RouteDef]:
        through = self.through_faults
        return [
            web.post("/v1/files", through(self._keep)),
            web.get("/v1/files", through(self._inputs_listed)),
            web.get("/v1/files/{id}/content", self._content),
            web.delete("/v1/files/{id}", through(self._forget)),
            web.post("/v1/batches", through(self._begin)),
            web.get("/v1/batches", through(self._listed)),
            web.get("/v1/batches/{id}", through(self._look)),
            web.post("/v1/batches/{id}/cancel", through(self._stop)),
            web.get("/double/desk", self._told),
            *(one for one in super().routes() if not one.path.startswith("/v1/files")),
        ]

    async def _keep(self, call: Call) -> dict[str, Any]:
        authorised(call)
        fields, name, said = _form_of(call.raw, call.headers.get("Content-Type", ""))
        call.raw = b""
        if fields.get("purpose") != "batch":
            raise Refused(400, "invalid_value", "Invalid value for 'purpose'.", param="purpose")
        if not 3_600 <= int(fields.get("expires_after[seconds]", 3_600)) <= 2_592_000:
            raise Refused(400, "invalid_value", "Invalid 'expires_after.seconds'.")
        if not name.endswith(".jsonl"):
            raise Refused(400, "invalid_file_format", "Invalid file format for Batch API.")
        if not said or len(said) > BYTES_MAX:
            raise Refused(400, "invalid_file_size", "File is empty or too large.")
        ref = f"file-b{next(self._ids):08}"
        self.inputs[ref] = (name, said, time.time())
        return _file(ref, name, len(said), time.time())

    async def _inputs_listed(self, call: Call) -> dict[str, Any]:
        authorised(call)
        files = [_file(ref, name, len(said), at) for ref, (name, said, at) in self.inputs.items()][
            ::-1
        ]
        return _page(files, call)

    async def _content(self, request: web.Request) -> web.StreamResponse:
        call = Call(
            method="GET", path=request.path, headers=dict(request.headers), body=None, fault="ok"
        )
        self.calls.append(call)
        if (lines := self.outputs.get(request.match_info["id"])) is None:
            return web.json_response({"error": {"message": "No such File."}}, status=404)
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        await response.prepare(request)
        for start in range(0, len(lines), 500):
            await response.write(b"".join(lines[start : start + 500]))
        await response.write_eof()
        return response

    async def _forget(self, call: Call) -> dict[str, Any]:
        authorised(call)
        ref = call.path.rpartition("/")[2]
        if self.inputs.pop(ref, None) is None and self.outputs.pop(ref, None) is None:
            self.files.delete(ref)
        return {"id": ref, "object": "file", "deleted": True}

    async def _begin(self, call: Call) -> dict[str, Any]:
        authorised(call)
        body = object_of(call, _CREATE)
        endpoint, stored = body.get("endpoint"), body.get("input_file_id")
        if endpoint not in ENDPOINTS:
            raise Refused(400, "invalid_value", "Invalid endpoint.", param="endpoint")
        if body.get("completion_window") != "24h":
            raise Refused(400, "invalid_value", "Invalid window.", param="completion_window")
        outputs = body.get("output_expires_after") or {"anchor": "created_at", "seconds": 3_600}
        if not 3_600 <= outputs["seconds"] <= 2_592_000 or outputs["anchor"] != "created_at":
            raise Refused(400, "invalid_value", "Invalid 'output_expires_after'.")
        if stored not in self.inputs:
            raise Refused(400, "invalid_request", f"No such File: {stored}", param="input_file_id")
        batch = self._taken(endpoint, stored, body.get("metadata") or {})
        return self._shown(batch)

    def _taken(self, endpoint: str, stored: str, metadata: dict[str, str]) -> DeskBatch:
        said = self.inputs[stored][1]
        lines, errors = _lines(said, endpoint, self.models)
        fate = self.desk.fates.popleft() if self.desk.fates else Fate()
        if errors:
            fate = Fate(ends="failed", errors=errors)
        batch = DeskBatch(
            id=f"batch_{next(self._ids):08}",
            lines=lines,
            fate=fate,
            tokens=sum(tokens_of(json.dumps(one.body).encode()) for one in lines),
            begun=time.monotonic(),
            metadata=metadata,
            stored=stored,
            endpoint=endpoint,
            models=frozenset(one.body["model"] for one in lines),
        )
        self.desk.take(batch)
        return batch

    async def _listed(self, call: Call) -> dict[str, Any]:
        authorised(call)
        return _page([self._shown(one) for one in self.desk.listed()], call)

    async def _look(self, call: Call) -> dict[str, Any]:
        authorised(call)
        return self._shown(self._found(call.path.rpartition("/")[2]))

    async def _stop(self, call: Call) -> dict[str, Any]:
        authorised(call)
        batch = self._found(call.path.split("/")[-2])
        if batch.ended:
            raise Refused(409, "batch_over", f"Cannot cancel a batch that is {batch.ended}.")
        self.desk.cancel(batch)
        return self._shown(batch)

    def _found(self, ref: str) -> DeskBatch:
        batch = self.desk.find(ref)
        if batch is None:
            raise Refused(404, "not_found", f"No batch found with id '{ref}'.")
        return batch

    def _shown(self, batch: DeskBatch) -> dict[str, Any]:
        none = "" if batch.fate.empty_names else None
        output, wrong = f"file-o{batch.id}", f"file-e{batch.id}"
        if batch.results:
            self._write(output, batch, answered=True)
            self._write(wrong, batch, answered=False)
            batch.results = []
        answers = len(self.outputs.get(output, ()))
        return {
            "id": batch.id,
            "object": "batch",
            "endpoint": batch.endpoint,
            "errors": _errors(batch),
            "input_file_id": batch.stored,
            "completion_window": "24h",
            "status": batch.ended or "in_progress",
            "output_file_id": output if output in self.outputs else none,
            "error_file_id": wrong if wrong in self.outputs else none,
            "created_at": int(time.time() - (time.monotonic() - batch.begun)),
            "request_counts": {
                "total": batch.total,
                "completed": answers,
                "failed": len(self.outputs.get(wrong, ())),
            },
            "metadata": batch.metadata,
        }

    def _write(self, ref: str, batch: DeskBatch, *, answered: bool) -> None:
        lines = [
            json.dumps(_result(line, outcome, next(self._ids))).encode() + b"\n"
            for line, outcome in batch.results
            if (outcome in ("", "failed")) == answered
        ]
        if lines:
            self.outputs[ref] = lines

    async def _told(self, _: web.Request) -> web.Response:
        return web.json_response(self.desk.told())


def _lines(
    said: bytes, endpoint: str, models: frozenset[str]
) -> tuple[list[DeskLine], list[tuple[str, int | None]]]:
    """Return the lines of an input, and what is wrong with it, in the vendor's codes."""
    found: list[DeskLine] = []
    errors: list[tuple[str, int | None]] = []
    seen: set[str] = set()
    for number, line in enumerate(said.splitlines(), start=1):
        try:
            one = json.loads(line)
            custom_id, body = one["custom_id"], one["body"]
        except (ValueError, KeyError, TypeError):
            errors.append(("invalid_json_line", number))
            continue
        errors += [(code, number) for code in _wrong(one, endpoint, seen, models)]
        seen.add(custom_id)
        found.append(DeskLine(custom_id=custom_id, url=one.get("url", ""), body=body))
    if not found and not errors:
        errors.append(("empty_file", None))
    if len(found) > LINES_MAX:
        errors.append(("too_many_tasks", None))
    if len({one.body.get("model") for one in found}) > 1:
        errors.append(("mismatched_model", None))
    return found, errors


def _wrong(one: dict[str, Any], endpoint: str, seen: set[str], models: frozenset[str]) -> list[str]:
    body, custom_id = one["body"], one["custom_id"]
    said = body.get("input" if endpoint == "/v1/responses" else "messages")
    faults = {
        "duplicate_custom_id": custom_id in seen,
        "invalid_custom_id": not isinstance(custom_id, str) or not 0 < len(custom_id) <= 512,
        "invalid_method": one.get("method") != "POST",
        "mismatched_url": one.get("url") != endpoint,
        "invalid_request_line": bool(set(one) - {"custom_id", "method", "url", "body"}),
        "model_not_found": body.get("model") not in models,
        "unsupported_parameter": bool(body.get("stream") or body.get("background")),
        "unknown_parameter": bool(set(body) - ENDPOINTS[endpoint]),
        "missing_required_parameter": not said,
    }
    return [code for code, is_one in faults.items() if is_one]


def _result(line: DeskLine, outcome: str, number: int) -> dict[str, Any]:
    """Return a line of output. Errors of a call stand in its response, beside `error: null`."""
    body: dict[str, Any]
    shown: dict[str, Any] = {
        "id": f"batch_req_{number:08}",
        "custom_id": line.custom_id,
        "response": None,
        "error": None,
    }
    if outcome in ("expired", "canceled"):
        code = "batch_expired" if outcome == "expired" else "batch_cancelled"
        return {**shown, "error": {"code": code, "message": "It was not executed in time."}}
    if outcome == "failed":
        status, error = 200, {"code": "server_error", "message": "Scripted."}
        body = {**_reply(line, number), "status": "failed", "error": error, "output": []}
    elif outcome:
        status, code = _FAULTS[outcome]
        error = {"message": "Scripted.", "type": "invalid_request_error", "code": code}
        body = {"error": error}
    else:
        status, body = 200, _reply(line, number)
    response = {"status_code": status, "request_id": f"req_{number:08}", "body": body}
    return {**shown, "response": response}


def _reply(line: DeskLine, number: int) -> dict[str, Any]:
    text, model = answer_to(line.body), line.body["model"]
    if line.url == "/v1/chat/completions":
        return {
            "id": f"chatcmpl-{number:08}",
            "object": "chat.completion",
            "model": model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        }
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {
        "id": f"resp_{number:08}",
        "object": "response",
        "status": "completed",
        "model": model,
        "error": None,
        "service_tier": "default",
        "output": [
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
            | {"content": content}
        ],
        "usage": {
            "input_tokens": 100,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 10,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 110,
        },
    }


def _errors(batch: DeskBatch) -> dict[str, Any] | None:
    if not batch.errors:
        return None
    data = [
        {"code": code, "line": line, "message": "Scripted.", "param": None}
        for code, line in batch.errors
    ]
    return {"object": "list", "data": data}


def _file(ref: str, name: str, size: int, at: float) -> dict[str, Any]:
    return {
        "id": ref,
        "object": "file",
        "bytes": size,
        "created_at": int(at),
        "filename": name,
        "purpose": "batch",
    }


def _page(found: list[dict[str, Any]], call: Call) -> dict[str, Any]:
    limit, after = int(call.query.get("limit", 20)), call.query.get("after")
    if not 1 <= limit <= 100:
        raise Refused(400, "invalid_value", "limit: out of range", param="limit")
    ids = [one["id"] for one in found]
    start = ids.index(after) + 1 if after in ids else 0
    return {
        "object": "list",
        "data": found[start : start + limit],
        "has_more": start + limit < len(found),
    }


def _form_of(raw: bytes, content_type: str) -> tuple[dict[str, str], str, bytes]:
    """Return the fields of a form, and the name and the bytes of its file."""
    _, found, boundary = content_type.partition("boundary=")
    if not found:
        raise Refused(400, "invalid_request_error", "Content-Type must be multipart/form-data")
    fields: dict[str, str] = {}
    name, said = "", b""
    for part in raw.split(b"--" + boundary.encode())[1:-1]:
        head, _, content = part.strip(b"\r\n").partition(b"\r\n\r\n")
        fields_of_head = head.decode().replace("\r\n", "; ").split("; ")
        words = dict(one.split("=", 1) for one in fields_of_head if "=" in one)
        if "filename" in words:
            name, said = words["filename"].strip('"'), content
        else:
            fields[words["name"].strip('"')] = content.decode()
    return fields, name, said


if __name__ == "__main__":
    run_as_process(OpenAIBatchesDouble)
