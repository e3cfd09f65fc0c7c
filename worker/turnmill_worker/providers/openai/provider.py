"""OpenAI, and every server that speaks its Responses API or chat completions."""

import asyncio
import os
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import Any, Self, TypeVar
from urllib.parse import quote

from openai import AsyncOpenAI

from turnmill.domain.content import Kind, Message, Native, Text, ToolCall, ToolOutput
from turnmill.domain.errors import KeyMissing, ProviderError, Rejected, ThreadLost
from turnmill_worker.providers.answers import id_in, read, refusal, tokens_in
from turnmill_worker.providers.counting import input_bound, output_bound
from turnmill_worker.providers.failures import error_object_of
from turnmill_worker.providers.http import DEFAULT_TIMEOUT, RawAnswer, Vendor, encoded, headers_of
from turnmill_worker.providers.openai import chat, responses
from turnmill_worker.providers.openai.streaming import ChatEvents, ResponseEvents
from turnmill_worker.providers.parameters import choice, refuse_thread, timeout_of
from turnmill_worker.providers.port import (
    Absent,
    Done,
    Emit,
    Failed,
    Request,
    Running,
    Unknowable,
    Usage,
)
from turnmill_worker.providers.streaming import Assembly, Told, answered
from turnmill_worker.providers.untrusted import tier

T = TypeVar("T")

_REQUEST_ID = "x-request-id"
#: Where the vendor's codes are, the finest first.
_CODES = ("code", "type")

#: How a stream is asked for.
_STREAMED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        responses.PATH: {"stream": True},
        chat.PATH: {"stream": True, "stream_options": {"include_usage": True}},
    }
)
_MOST_REMEMBERED = 1_000

_LOST = "previous_response_not_found"
_NOTHING_TO_STOP = frozenset({400, 404})
_NAMED_WITHIN = timedelta(seconds=3)


class OpenAIProvider:
    """Responses as a chain kept by OpenAI, or with the history sent along.

    Settings: `thread` = chain | client, `api` = responses | chat, `timeout` in seconds. A chain
    forks where a response is sent again, so a resend costs, but never doubles a turn.
    """

    name = "openai"
    accepts: frozenset[Kind] = frozenset({Text, ToolCall, ToolOutput, Native})

    def __init__(self, sdk: AsyncOpenAI) -> None:
        self._sdk = sdk
        self._vendor = Vendor(
            base_url=str(sdk.base_url),
            headers=lambda: headers_of(sdk.default_headers, sdk.auth_headers),
        )
        #: what the server refuses, of which model
        self._unstreamed: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def from_env(cls) -> Self:
        """Read OPENAI_API_KEY and OPENAI_BASE_URL; the SDK reads organisation and project."""
        key = os.environ.get("OPENAI_API_KEY")
        if not key:
            raise KeyMissing(hint="set OPENAI_API_KEY in the environment of the worker")
        base_url = os.environ.get("OPENAI_BASE_URL") or None
        return cls(AsyncOpenAI(api_key=key, base_url=base_url, max_retries=0))

    async def send(self, request: Request, emit: Emit | None = None) -> Done | Running:
        told = None if emit is None else Told(emit)
        if choice(request.settings, "api", among=("responses", "chat")) == "chat":
            reply: Done | Running = await self._send_chat(request, told)
        else:
            reply = await self._send_response(request, told)
        return reply if told is None or isinstance(reply, Running) else await told.ended(reply)

    def most(self, request: Request, thread: Sequence[Message]) -> Usage:
        """Return what the call may take; in a chain, the reasoning of earlier steps as well."""
        names: tuple[str, ...] = ("max_output_tokens",)
        if choice(request.settings, "api", among=("responses", "chat")) == "chat":
            names = ("max_output_tokens", "max_completion_tokens", "max_tokens")
        told, said = input_bound(request, thread), output_bound(request.settings, *names)
        if told is not None and request.thread_ref:
            told += said * (request.step - 1)
        return Usage(
            input_tokens=told,
            output_tokens=said,
            cache_write_tokens=told,
            service_tier=tier(request.settings.get("service_tier")).removeprefix("auto"),
        )

    async def count(self, request: Request) -> int:
        """Ask https://platform.openai.com/docs/api-reference/responses/input-tokens."""
        if choice(request.settings, "api", among=("responses", "chat")) == "chat":
            raise Rejected("no_counting", hint="chat completions cannot be counted: exact=False")
        body = responses.counted_body_of(request)
        answer = await self._vendor.call("POST", responses.COUNT_PATH, encoded(body))
        if not answer.accepted:
            raise _refusal(answer)
        return await read(answer, tokens_in, request_id=_REQUEST_ID)

    async def check(self, request: Request) -> Done | Running | Failed | Absent | Unknowable:
        if not request.native_ref:
            return Unknowable(resend_is_safe=True)  # the API finds no response by our own names
        answer = await self._vendor.call("GET", _path_of(request.native_ref))
        if answer.status == 404:
            return Unknowable(resend_is_safe=True)
        if not answer.accepted:
            raise _refusal(answer)
        return await _read(answer, request, responses.found_of)

    async def cancel(self, native_ref: str) -> None:
        """Stop a response in the background.

        One that has ended is returned as it stands, one that is in no background is a 400:
        https://developers.openai.com/api/docs/guides/background
        """
        answer = await self._vendor.call("POST", f"{_path_of(native_ref)}/cancel")
        if not answer.accepted and answer.status not in _NOTHING_TO_STOP:
            raise _refusal(answer)

    async def close(self, thread_ref: str) -> None:
        if thread_ref:
            answer = await self._vendor.call("DELETE", _path_of(thread_ref))
            if answer.status >= 300 and answer.status != 404:
                raise _refusal(answer)

    async def aclose(self) -> None:
        await self._vendor.aclose()
        await self._sdk.close()

    async def _send_response(self, request: Request, told: Told | None) -> Done | Running:
        chain = _is_chain(request)
        if not chain:
            refuse_thread(request)
        if told is not None:
            body = responses.body_of(request, chain=chain)
            return await self._stream_response(body, request, told)
        sent = encoded(responses.body_of(request, chain=chain))
        post = self._begin if request.settings.get("background") else self._post
        answer = await post(responses.PATH, sent, request)
        return await _read(answer, request, responses.reply_of)

    async def _stream_response(
        self, body: dict[str, Any], request: Request, told: Told
    ) -> Done | Running:
        """Stream a response; what fails may have left one at the vendor."""
        events = ResponseEvents(most=self._vendor.reply_bytes_max)
        streaming = self._stream(responses.PATH, body, request, events, told)
        try:
            if request.settings.get("background"):
                answer = await _followed(streaming, events)
            else:
                answer = await streaming
            return await _read(answer, request, responses.reply_of)
        except ProviderError as error:
            if events.id and _is_chain(request):
                error.kept = error.kept or (events.id,)
            if error.error_code != _LOST or not request.thread_ref:
                raise
            lost = ThreadLost(_LOST, detail=error.detail, request_id=error.request_id)
        raise lost  # out here, so that what the vendor said is not chained to it

    async def _begin(self, path: str, body: bytes, request: Request) -> RawAnswer:
        """Begin what goes on though we hang up: a call that is closed waits for its id a little.

        Only by that can the work be found again, or stopped.
        """
        posting = asyncio.ensure_future(self._post(path, body, request))
        try:
            return await asyncio.shield(posting)
        except asyncio.CancelledError:
            done, _ = await asyncio.wait([posting], timeout=_NAMED_WITHIN.total_seconds())
            if done and not posting.cancelled() and posting.exception() is None:
                return posting.result()
            raise
        finally:
            posting.cancel()

    async def _send_chat(self, request: Request, told: Told | None) -> Done:
        choice(request.settings, "thread", among=("client",))
        refuse_thread(request)
        if told is None:
            answer = await self._post(chat.PATH, encoded(chat.body_of(request)), request)
        else:
            body = chat.body_of(request)
            events = ChatEvents(most=self._vendor.reply_bytes_max)
            answer = await self._stream(chat.PATH, body, request, events, told)
        if not answer.accepted:
            raise _refusal(answer)
        reply_of = partial(chat.reply_of, request_id=id_in(answer, _REQUEST_ID))
        return await read(answer, reply_of, request_id=_REQUEST_ID)

    async def _stream(
        self,
        path: str,
        body: dict[str, Any],
        request: Request,
        events: Assembly,
        told: Told,
    ) -> RawAnswer:
        """Ask for a stream, without what the server refuses of that: it is remembered."""
        within = timeout_of(request.settings, default=DEFAULT_TIMEOUT)
        take = partial(answered, assembly=events, told=told)
        refused: set[tuple[str, str]] = set()
        while True:
            known = self._unstreamed | refused
            wanted = {
                one: how
                for one, how in _STREAMED[path].items()
                if (request.model, one) not in known
            }
            if "stream" in wanted:
                sent = encoded({**body, **wanted})
                answer = await self._vendor.stream(path, sent, take, within=within)
            else:
                answer = await self._post(path, encoded(body), request)
            name = _named_in(answer, wanted)
            if not name:
                break
            refused.add((request.model, name))
        if answer.accepted and len(known) < _MOST_REMEMBERED:
            self._unstreamed |= refused
        return answer

    async def _post(self, path: str, body: bytes, request: Request) -> RawAnswer:
        within = timeout_of(request.settings, default=DEFAULT_TIMEOUT)
        return await self._vendor.call("POST", path, body, within=within)


async def _followed(streaming: Coroutine[Any, Any, RawAnswer], events: ResponseEvents) -> RawAnswer:
    """Read the stream of what goes on in the background without us, as soon as it has its id.

    However that stream ends, the response is looked up then: after five minutes the vendor ends
    every stream. A call that is closed waits for the id a little.
    """
    following = asyncio.ensure_future(streaming)
    try:
        answer = await asyncio.shield(following)
        if answer.payload is None or events.has_ended or not events.id:
            return answer
    except ProviderError:
        if not events.id:
            raise
    except asyncio.CancelledError:
        naming = asyncio.ensure_future(events.named.wait())
        await asyncio.wait(
            [following, naming],
            timeout=_NAMED_WITHIN.total_seconds(),
            return_when=asyncio.FIRST_COMPLETED,
        )
        naming.cancel()
        if not events.id:
            raise
    finally:
        following.cancel()
    return RawAnswer(200, {}, b"", payload=events.running)


def _named_in(answer: RawAnswer, wanted: Collection[str]) -> str:
    """Return which of the parameters a refusal names, or ""."""
    if answer.status not in (400, 422):
        return ""
    param = error_object_of(answer.body).get("param")
    if isinstance(param, str) and param:
        return next((one for one in wanted if param.split(".")[0] == one), "")
    # Not `stream`, which may be any word. Whether it was this is seen when it is left out.
    return (
        "stream_options" if "stream_options" in wanted and b"stream_options" in answer.body else ""
    )


async def _read(answer: RawAnswer, request: Request, reply_of: Callable[..., T]) -> T:
    """Return what `reply_of` makes of a response; raises what its refusal means."""
    if not answer.accepted:
        raise _refusal(answer, thread_ref=request.thread_ref)
    chain, request_id = _is_chain(request), id_in(answer, _REQUEST_ID)
    offered = bool(request.tools)
    bound = partial(reply_of, chain=chain, request_id=request_id, offered=offered)
    return await read(answer, bound, request_id=_REQUEST_ID)


def _is_chain(request: Request) -> bool:
    return choice(request.settings, "thread", among=("chain", "client")) == "chain"


def _path_of(response_id: str) -> str:
    return f"{responses.PATH}/{quote(response_id, safe='')}"


def _refusal(answer: RawAnswer, *, thread_ref: str = "") -> ProviderError:
    """Return what a refusal means; of the thread that was named in the request, it may be lost."""
    error = refusal(answer, request_id=_REQUEST_ID, codes=_CODES)
    if thread_ref and answer.status in (400, 404) and _is_about_thread(answer):
        return ThreadLost(_LOST, detail=error.detail, request_id=error.request_id)
    return error


def _is_about_thread(answer: RawAnswer) -> bool:
    """Tell whether the refusal is one of the thread rather than of what was said in this turn.

    Forgotten, of another vendor, or of a server that keeps no threads: each has its own code, but
    names the parameter. And a thread that cannot go on, since a call in it has no output, is told
    as a fault of `input` without a code: what the turn itself put there would have one.
    """
    error = error_object_of(answer.body)
    code, param = error.get("code"), error.get("param")
    if code == _LOST or param == "previous_response_id":
        return True
    return param == "input" and code in (None, "", "invalid_request_error")
