"""A stand-in for Anthropic: Messages."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Any

from aiohttp import web

from tests.doubles import streams
from tests.doubles.message_threads import MessageThreads
from tests.doubles.vendor_double import (
    Call,
    Refused,
    VendorDouble,
    in_a_minute,
    run_as_process,
)
from tests.doubles.vendor_files import Files, StoredFile, form_of
from tests.validators import anthropic_messages

KEY = "sk-ant-double"

#: status, error type, error_code, headers
_REFUSALS: dict[str, tuple[int, str, dict[str, str]]] = {
    "bad_key": (401, "authentication_error", {}),
    "rate_limited": (429, "rate_limit_error", {"retry-after": "7"}),
    "rate_limited_ms": (429, "rate_limit_error", {"retry-after-ms": "250", "retry-after": "1"}),
    "quota": (429, "rate_limit_error/enforced_spend_limit_reached", {}),
    "overloaded": (529, "overloaded_error", {}),
    "server_error": (500, "api_error", {}),
    "no_such_model": (404, "not_found_error", {}),
}

_STOPS = {
    "length": "max_tokens",
    "content_filter": "refusal",
    "refusal": "refusal",
    "window_full": "model_context_window_exceeded",
    "tool_calls": "tool_use",
}


_REFUSED = {"type": "refusal", "category": "general_harms", "explanation": None}

#: What is taken where tokens are only counted.
_COUNTED = {"messages", "model", "system", "thinking", "tool_choice", "tools"}

TOO_LONG = Refused(
    400, "invalid_request_error", "prompt is too long: 204373 tokens > 200000 maximum"
)


class AnthropicDouble(VendorDouble):
    """Echoes: `echo: Hello [2 before]`, the number of messages that came before."""

    name = "Anthropic"

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._numbers = count(1)
        self._called = count(1)
        self.files = Files("file_")
        self.threads = MessageThreads()

    @property
    def base_url(self) -> str:
        """What goes into ANTHROPIC_BASE_URL."""
        return self.url

    def forget(self) -> None:
        """Lose all threads, as the vendor does within minutes."""
        self.threads.forget()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/messages", self.through_faults(self._create)),
            web.post("/v1/messages/count_tokens", self.through_faults(self._count)),
            web.post("/v1/files", self.through_faults(self._upload)),
            web.get("/v1/files", self.through_faults(self._list)),
            web.delete("/v1/files/{id}", self.through_faults(self._delete)),
        ]

    def refusals(self) -> Mapping[str, Refused]:
        plain = {
            fault: Refused(status, code, "Scripted.", headers=headers)
            for fault, (status, code, headers) in _REFUSALS.items()
        }
        date = {"retry-after": in_a_minute()}
        plain["rate_limited_date"] = Refused(429, "rate_limit_error", "Scripted.", headers=date)
        unanswered = (
            "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after:"
            " toolu_1. Each `tool_use` block must have a corresponding `tool_result` block."
        )
        plain["history_refused"] = Refused(400, "invalid_request_error", unanswered)
        plain["context_full"] = TOO_LONG
        return plain

    def error_body(self, refused: Refused) -> dict[str, Any]:
        kind, _, code = refused.code.partition("/")
        error: dict[str, Any] = {"type": kind, "message": refused.message}
        if code:
            error["details"] = {"error_code": code}
        return {"type": "error", "error": error, "request_id": "req_double"}

    def reply_headers(self) -> dict[str, str]:
        return {"request-id": f"req_{next(self._numbers):06}"}

    def events(self, call: Call, payload: dict[str, Any]) -> list[bytes | str] | None:
        if not isinstance(call.body, dict) or not call.body.get("stream"):
            return None
        fault = "stream_cut" if call.fault == "cut" else call.fault
        events = streams.message_events(payload, size=self.piece)
        error = streams.written(streams.ERRORS["messages"])
        return streams.faulty(fault, [streams.written(one) for one in events], error)

    async def _count(self, call: Call) -> dict[str, Any]:
        _authorised(call)
        if unknown := set(call.body) - _COUNTED:
            raise Refused(400, "invalid_request_error", f"{min(unknown)}: not permitted")
        check_message_body({**call.body, "max_tokens": 1})
        return {"input_tokens": len(json.dumps(call.body)) // 4}

    async def _create(self, call: Call) -> dict[str, Any]:
        _authorised(call)
        if not isinstance(call.body, dict):
            raise Refused(400, "invalid_request_error", "The request body is not valid JSON.")
        body = self.threads.whole_of(call.body, betas=call.headers.get("anthropic-beta", ""))
        check_message_body(body)
        self.files.check_refs(body["messages"])
        if self.is_too_long(body["messages"]):
            raise TOO_LONG
        text = self.says(body) or _echo(body["messages"])
        content: list[dict[str, Any]] = [{"type": "text", "text": text}]
        if call.fault == "tool_calls":
            called = f"toolu_{next(self._called)}"
            content.append({"type": "tool_use", "id": called, "name": "f", "input": {}})
        reply = {
            "id": f"msg_{next(self._numbers):08}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": content,
            "stop_reason": _STOPS.get(call.fault, "end_turn"),
            "stop_sequence": None,
            "stop_details": _REFUSED if call.fault == "refusal" else None,
            "usage": None if call.fault == "no_usage" else _usage(),
        }
        self.threads.hold(call.body, body, reply)
        return reply

    async def _upload(self, call: Call) -> dict[str, Any]:
        _authorised(call)
        if not self.keeps_files:
            raise Refused(404, "not_found_error", "Not found")
        form = form_of(call.raw, call.headers.get("Content-Type", ""))
        if set(form) - {"file", "expires_in_seconds"}:
            raise Refused(400, "invalid_request_error", "Extra inputs are not permitted")
        seconds = form.get("expires_in_seconds")
        if seconds is not None and not 3600 <= int(seconds) <= 7_776_000:
            raise Refused(400, "invalid_request_error", "expires_in_seconds: out of range")
        return _shown_file(self.files.add(form, seconds=seconds))

    async def _list(self, call: Call) -> dict[str, Any]:
        _authorised(call)
        limit, first = int(call.query.get("limit", 20)), int(call.query.get("page", "page_0")[5:])
        if not 1 <= limit <= 1000:
            raise Refused(400, "invalid_request_error", "limit: out of range")
        found = [*self.files.kept.values()]
        page, further = found[first : first + limit], first + limit
        next_page = f"page_{further}" if further < len(found) else None
        return {"data": [_shown_file(one) for one in page], "next_page": next_page}

    async def _delete(self, call: Call) -> dict[str, Any]:
        _authorised(call)
        ref = call.path.rpartition("/")[2]
        self.files.delete(ref)
        return {"id": ref, "type": "file_deleted"}


def _shown_file(one: StoredFile) -> dict[str, Any]:
    def moment(at: float | None) -> str | None:
        return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()

    return {
        "id": one.id,
        "type": "file",
        "filename": one.filename,
        "mime_type": one.media_type,
        "size_bytes": len(one.said),
        "created_at": moment(one.created_at),
        "expires_at": moment(one.expires_at),
        "downloadable": False,
    }


def _usage() -> dict[str, int]:
    return {
        "input_tokens": 383,
        "cache_creation_input_tokens": 16,
        "cache_read_input_tokens": 1024,
        "output_tokens": 128,
    }


def check_message_body(body: dict[str, Any]) -> None:
    """Raise Refused for what `POST /v1/messages` refuses."""
    for wrong in anthropic_messages.violations(body):
        raise Refused(400, "invalid_request_error", wrong)


def _authorised(call: Call) -> None:
    given = call.headers.get("x-api-key") or call.headers.get("Authorization", "")
    if not given:
        raise Refused(401, "authentication_error", "x-api-key header is required")
    if given.removeprefix("Bearer ") != KEY:
        raise Refused(401, "authentication_error", "invalid x-api-key")
    if "anthropic-version" not in call.headers:
        wrong = "anthropic-version: header is required"
        raise Refused(400, "invalid_request_error", wrong)


def _echo(messages: list[dict[str, Any]]) -> str:
    said = messages[-1]["content"]
    if not isinstance(said, str):
        said = "".join(map(_shown, said))
    return f"echo: {said} [{len(messages) - 1} before]"


def _shown(block: dict[str, Any]) -> str:
    if block["type"] in ("image", "document"):
        return f"[{block['type']}]"
    return str(block.get("text", block.get("content", "")))


if __name__ == "__main__":
    run_as_process(AnthropicDouble)
