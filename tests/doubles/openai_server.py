"""A stand-in for OpenAI: Responses (stored, chained, in the background), conversations, chat."""

import json
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from aiohttp import web

from tests.doubles import streams
from tests.doubles.conversation_routes import routes_of
from tests.doubles.conversations import Conversations, page_of
from tests.doubles.openai_bodies import (
    CHAT_PARAMETERS,
    RESPONSE_PARAMETERS,
    chat_usage,
    check_chat_body,
    check_response_body,
    echo,
    items_of,
    open_calls,
    outcome_of,
    output_of,
    shown_as,
    usage_of,
)
from tests.doubles.openai_files import routes_of as file_routes_of
from tests.doubles.openai_requests import KEY as KEY
from tests.doubles.openai_requests import (
    authorised,
    check_descriptions,
    check_prompt,
    object_of,
)
from tests.doubles.vendor_double import (
    Call,
    Refused,
    VendorDouble,
    in_a_minute,
    run_as_process,
)
from tests.doubles.vendor_files import Files

RESPONSES_KEPT = 100_000


_REFUSALS = {
    "rate_limited": (429, "rate_limit_exceeded", {"retry-after": "7"}),
    "rate_limited_ms": (429, "rate_limit_exceeded", {"retry-after-ms": "250", "retry-after": "1"}),
    "quota": (429, "insufficient_quota", {}),
    "overloaded": (503, "server_overloaded", {}),
    "server_error": (500, "server_error", {}),
    "locked": (400, "conversation_locked", {}),
    "no_such_model": (404, "model_not_found", {}),
    "bad_key": (401, "invalid_api_key", {}),
}


TOO_LONG = Refused(
    400,
    "context_length_exceeded",
    "Your input exceeds the context window of this model.",
    param="input",
)


@dataclass(frozen=True, slots=True)
class Stored:
    """A response that can be looked up, and continued."""

    items: tuple[dict[str, Any], ...]
    payload: dict[str, Any]  #: as it will be in the end
    begun: bool = False  #: work in the background that has not ended
    asked: tuple[dict[str, Any], ...] = ()  #: its own input


#: What is taken where tokens are only counted.
_COUNTED = frozenset(
    {"input", "instructions", "model", "reasoning", "text", "tool_choice", "tools"}
)


class OpenAIDouble(VendorDouble):
    """Echoes: `echo: Hello [2 before]`, the number of messages that came before."""

    name = "OpenAI"

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._stored: OrderedDict[str, Stored] = OrderedDict()
        self._numbers = count(1)
        self.refuses_stream_options = False  #: as servers that know nothing of them
        self.phase: str | None = None  #: as what it says its messages
        self.conversations = Conversations()
        self.files = Files("file-")
        #: prompts that are kept, by their ids: the variables that each version wants
        self.prompts: dict[str, Mapping[str, Collection[str]]] = {}

    @property
    def base_url(self) -> str:
        """What goes into OPENAI_BASE_URL."""
        return f"{self.url}/v1"

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/responses", self.through_faults(self._create)),
            web.post("/v1/responses/input_tokens", self.through_faults(self._count)),
            web.get("/v1/responses/{id}", self.through_faults(self._retrieve)),
            web.post("/v1/responses/{id}/cancel", self.through_faults(self._cancel)),
            web.delete("/v1/responses/{id}", self.through_faults(self._delete)),
            web.get("/v1/responses/{id}/input_items", self.through_faults(self._asked)),
            *routes_of(self.conversations, self.through_faults),
            *file_routes_of(self.files, self.through_faults),
            web.post("/v1/chat/completions", self.through_faults(self._complete)),
        ]

    def refusals(self) -> Mapping[str, Refused]:
        plain = {
            fault: Refused(status, code, "Scripted.", headers=headers)
            for fault, (status, code, headers) in _REFUSALS.items()
        }
        date = {"retry-after": in_a_minute()}
        plain["rate_limited_date"] = Refused(429, "rate_limit_exceeded", "Scripted.", headers=date)
        unanswered = "No tool output found for function call call_1."
        plain["history_refused"] = Refused(400, "", unanswered, param="input")
        plain["context_full"] = TOO_LONG
        return plain

    def error_body(self, refused: Refused) -> dict[str, Any]:
        kind = "invalid_request_error" if refused.status < 500 else "server_error"
        error = {
            "message": refused.message,
            "type": kind,
            "param": refused.param,
            "code": refused.code,
        }
        return {"error": error}

    def reply_headers(self) -> dict[str, str]:
        return {"x-request-id": f"req_{next(self._numbers):06}", "openai-version": "2020-10-01"}

    def events(self, call: Call, payload: dict[str, Any]) -> list[bytes | str] | None:
        if not (call.method == "POST" and isinstance(call.body, dict) and call.body.get("stream")):
            return None
        fault = "stream_cut" if call.fault == "cut" else call.fault
        if call.path.endswith("completions"):
            usage = (call.body.get("stream_options") or {}).get("include_usage", False)
            chunks = streams.chat_events(payload, size=self.piece, usage=usage)
            error = streams.written(streams.ERRORS["chat"])
            return streams.faulty(fault, [streams.written(one) for one in chunks], error)
        ended = self._stored[payload["id"]].payload if payload["id"] in self._stored else payload
        events = streams.response_events(ended, size=self.piece)
        error = streams.written(streams.ERRORS["responses"])
        sent = [streams.written(one) for one in events]
        if call.fault == "slow":  # the vendor's wall: the work goes on, and the stream does not
            return [*sent[:3]]
        return streams.faulty(fault, sent, error)

    @property
    def kept(self) -> Mapping[str, Stored]:
        """What is stored, by its id."""
        return self._stored

    def finish(self) -> None:
        """Let all work in the background come to its end."""
        for name, one in self._stored.items():
            if one.begun and (conversation := one.payload["conversation"]):
                self.conversations.unlock(conversation["id"])
                self.conversations.add(conversation["id"], (*one.asked, *one.payload["output"]))
            self._stored[name] = replace(one, begun=False)

    def forget(self) -> None:
        """Lose all that was stored, as the vendor does after 30 days."""
        self._stored.clear()
        self.conversations.lose()

    async def _count(self, call: Call) -> dict[str, Any]:
        authorised(call)
        body = object_of(call, _COUNTED)
        return {"object": "response.input_tokens", "input_tokens": len(json.dumps(body)) // 4}

    async def _create(self, call: Call) -> dict[str, Any]:
        authorised(call)
        body = object_of(call, RESPONSE_PARAMETERS)
        conversation = self.conversations.used_by(body)
        if conversation:
            thread = (*self.conversations.items_of(conversation),)
        else:
            thread = self._thread(body.get("previous_response_id"))
        check_response_body(body, held=open_calls(thread))
        check_prompt(body.get("prompt"), self.prompts)
        items = (*thread, *items_of(body["input"]))
        self.files.check_refs(items)
        if self.is_too_long(items):
            raise TOO_LONG
        payload = self._response(body, items, outcome=call.fault)
        self._store(body, items, payload, begun=call.fault == "slow")
        if body.get("background"):
            return {**payload, "status": "queued", "output": [], "usage": None}
        return payload

    def _store(
        self, body: dict[str, Any], items: tuple[Any, ...], payload: dict[str, Any], *, begun: bool
    ) -> None:
        """Keep what is to be kept: in the conversation, once it is there, and as a response."""
        asked = tuple(items_of(body["input"]))
        if ref := (payload["conversation"] or {}).get("id"):
            if begun:
                self.conversations.lock(ref)
            elif payload["status"] in ("completed", "incomplete"):
                self.conversations.add(ref, (*asked, *payload["output"]))
        if body.get("store", True):
            said = [item for item in payload["output"] if item["type"] != "reasoning"]
            named = tuple({"id": f"in_{next(self._numbers):08}", **one} for one in asked)
            stored = Stored((*items, *said), payload, begun=begun, asked=named)
            self._stored[payload["id"]] = stored
            if len(self._stored) > RESPONSES_KEPT:
                self._stored.popitem(last=False)

    async def _retrieve(self, call: Call) -> dict[str, Any]:
        authorised(call)
        stored = self._find(call.path.rpartition("/")[2])
        if call.fault == "in_progress" or stored.begun:
            return {**stored.payload, "status": "in_progress", "output": [], "usage": None}
        return stored.payload

    async def _cancel(self, call: Call) -> dict[str, Any]:
        """Only work in the background can be cancelled; what has ended is returned as it is.

        https://developers.openai.com/api/docs/guides/background
        """
        authorised(call)
        name = call.path.split("/")[-2]
        stored = self._find(name)
        if not stored.payload["background"]:
            raise Refused(400, "", "Only background responses can be cancelled.")
        if stored.begun:
            if conversation := stored.payload["conversation"]:
                self.conversations.unlock(conversation["id"])
            ended: dict[str, Any] = {"status": "cancelled", "output": [], "usage": None}
            self._stored[name] = Stored(stored.items, {**stored.payload, **ended})
        return self._stored[name].payload

    async def _delete(self, call: Call) -> dict[str, Any]:
        authorised(call)
        name = call.path.rpartition("/")[2]
        self._find(name)
        del self._stored[name]
        return {"id": name, "object": "response", "deleted": True}

    async def _asked(self, call: Call) -> dict[str, Any]:
        authorised(call)
        return page_of(self._find(call.path.split("/")[-2]).asked, call.query)

    async def _complete(self, call: Call) -> dict[str, Any]:
        authorised(call)
        body = object_of(call, CHAT_PARAMETERS)
        if "stream_options" in body and (self.refuses_stream_options or not body.get("stream")):
            wrong = "The 'stream_options' parameter is not allowed."
            raise Refused(400, "invalid_value", wrong, param="stream_options")
        check_chat_body(body)
        check_descriptions(body.get("tools"))
        self.files.check_refs(body["messages"])
        if self.is_too_long(body["messages"]):
            raise TOO_LONG
        talk = [message for message in body["messages"] if message["role"] != "system"]
        text, finish = outcome_of(call.fault, self.says(body) or echo(talk))
        refusal = call.fault == "refusal"
        said: dict[str, Any]
        said = {"content": None, "refusal": text} if refusal else {"content": text, "refusal": None}
        if call.fault == "tool_calls":
            function = {"name": "f", "arguments": "{}"}
            made = {"id": f"call_{next(self._numbers)}", "type": "function", "function": function}
            said = {"content": None, "refusal": None, "tool_calls": [made]}
        choice = {"index": 0, "message": {"role": "assistant", **said}, "finish_reason": finish}
        return {
            "id": f"chatcmpl-{next(self._numbers)}",
            "object": "chat.completion",
            "created": 1_790_000_000,
            "model": body["model"],
            "choices": [{**choice, "logprobs": None}],
            "usage": None if call.fault == "no_usage" else chat_usage(),
        }

    def _thread(self, previous: str | None) -> tuple[dict[str, Any], ...]:
        if previous is None:
            return ()
        if not previous.startswith("resp_"):
            wrong = f"Invalid 'previous_response_id': '{previous}'."
            raise Refused(400, "invalid_value", wrong, param="previous_response_id")
        if previous not in self._stored:
            message = f"Previous response with id '{previous}' not found."
            raise Refused(400, "previous_response_not_found", message)
        return self._stored[previous].items

    def _find(self, name: str) -> Stored:
        if name not in self._stored:
            raise Refused(404, "", f"Response with id '{name}' not found.")
        return self._stored[name]

    def _said(self, number: int, text: str, *, outcome: str) -> list[dict[str, Any]]:
        said = output_of(number, text, outcome=outcome)
        marked = {"phase": self.phase} if self.phase else {}
        return [one | marked if one["type"] == "message" else one for one in said]

    def _response(
        self, body: dict[str, Any], items: tuple[dict[str, Any], ...], *, outcome: str
    ) -> dict[str, Any]:
        number = next(self._numbers)
        text, _ = outcome_of(outcome, self.says(body) or echo(list(items)))
        incomplete = {"length": "max_output_tokens", "content_filter": "content_filter"}
        how, _, code = outcome.partition(":")  # of what was "spent" the tokens are told
        failed = code if how in ("failed", "spent") else None
        status = "failed" if failed else "incomplete" if outcome in incomplete else "completed"
        reason = {"reason": incomplete[outcome]} if outcome in incomplete else None
        return {
            "id": f"resp_{number:08}",
            "object": "response",
            "created_at": 1_790_000_000,
            "status": status,
            "background": bool(body.get("background")),
            "conversation": shown_as(body.get("conversation")),
            "error": {"code": failed, "message": "Scripted."} if failed else None,
            "incomplete_details": reason,
            "instructions": body.get("instructions"),
            "model": body["model"],
            "output": [] if failed else self._said(number, text, outcome=outcome),
            "parallel_tool_calls": True,
            "previous_response_id": body.get("previous_response_id"),
            "prompt": body.get("prompt"),
            "store": body.get("store", True),
            "temperature": body.get("temperature", 1.0),
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "usage": None if how == "failed" or outcome == "no_usage" else usage_of(),
        }


if __name__ == "__main__":
    run_as_process(OpenAIDouble)
