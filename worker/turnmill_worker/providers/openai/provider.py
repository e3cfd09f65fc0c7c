"""OpenAI, and every server that speaks its Responses API or chat completions."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import Any, Self, TypeVar
from urllib.parse import quote

from openai import AsyncOpenAI

from turnmill.domain.content import Kind, Message, Native, Text, ToolCall, ToolOutput
from turnmill.domain.errors import KeyMissing, ProviderError, Rejected, ThreadLocked, ThreadLost
from turnmill_worker.providers.answers import id_in, read, refusal, tokens_in
from turnmill_worker.providers.counting import input_bound, output_bound
from turnmill_worker.providers.failures import error_object_of
from turnmill_worker.providers.http import DEFAULT_TIMEOUT, RawAnswer, Vendor, encoded, headers_of
from turnmill_worker.providers.keys import account_of
from turnmill_worker.providers.openai import chat, conversations, responses
from turnmill_worker.providers.openai.streaming import ChatEvents, ResponseEvents
from turnmill_worker.providers.parameters import (
    choice,
    prompt_cache_of,
    refuse_prompt,
    refuse_thread,
    timeout_of,
)
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
from turnmill_worker.providers.untrusted import mapping, name, tier

T = TypeVar("T")
#: Makes a body, as often as one is sent.
Body = Callable[[], dict[str, Any]]
#: Sends what was encoded, as what is to stream or not.
Send = Callable[[bytes, bool], Awaitable[RawAnswer]]

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
#: By it the vendor finds the machine that holds what a session has said before.
_CACHE_KEY = "prompt_cache_key"
#: What servers that do not know it refuse in words that may name no parameter.
_NEWER = ("stream_options", _CACHE_KEY)
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_MOST_REMEMBERED = 1_000

#: Where a thread is kept: the words of the setting.
CHAIN, CLIENT, CONVERSATION = "chain", "client", "conversation"

_LOST = "previous_response_not_found"
_CONVERSATION_LOST = "conversation_not_found"
_LOST_CODES = frozenset({_LOST, _CONVERSATION_LOST})
_OF_THREADS = frozenset({"conversation", "previous_response_id"})
#: Codes that say nothing by themselves.
_NO_CODE = frozenset({"", "invalid_request_error", "not_found"})
_NOTHING_TO_STOP = frozenset({400, 404})
_NAMED_WITHIN = timedelta(seconds=3)
#: Tokens of a prompt that the vendor keeps: nobody here has seen it.
_OF_PROMPT = 16_384


class OpenAIProvider:
    """Responses as a thread kept by OpenAI, or with the history sent along.

    Settings: `thread` = chain | conversation | client, `api` = responses | chat, `prompt`,
    `timeout` in seconds. A chain forks where a response is sent again, so a resend costs, but never
    doubles a turn. A conversation does not fork: it is lent to one call, see `lends`.
    """

    name = "openai"
    accepts: frozenset[Kind] = frozenset({Text, ToolCall, ToolOutput, Native})

    def __init__(self, sdk: AsyncOpenAI) -> None:
        self._sdk = sdk
        #: whose limits and refusals these are; the key itself is told nowhere
        self.account = account_of(str(sdk.base_url), sdk.api_key, sdk.organization, sdk.project)
        self._vendor = Vendor(
            base_url=str(sdk.base_url),
            headers=lambda: headers_of(sdk.default_headers, sdk.auth_headers),
        )
        #: what the server refuses, of which model
        self._refused: frozenset[tuple[str, str]] = frozenset()

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
        if _api(request) == "chat":
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
        if told is not None and request.settings.get("prompt"):
            told += _OF_PROMPT
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

    def lends(self, request: Request) -> bool:
        """Tell whether the call is one of a conversation; what a chain was cannot be used as one.

        That is raised by `send`, as of any thread that is kept elsewhere.
        """
        is_one = not request.thread_ref or conversations.is_conversation(request.thread_ref)
        return is_one and _api(request) == "responses" and _kind(request) == CONVERSATION

    async def begin_thread(self, request: Request) -> str:
        """Begin an empty conversation."""
        return await conversations.begin(self._vendor, request.session_id, refusal=_refusal)

    async def read_thread(self, thread_ref: str) -> Sequence[Message]:
        """Return what was said in a conversation, or up to a response."""
        return await conversations.read(self._vendor, thread_ref, refusal=_refusal)

    async def close(self, thread_ref: str) -> None:
        if conversations.is_conversation(thread_ref):
            await conversations.delete(self._vendor, thread_ref, refusal=_refusal)
        elif thread_ref:
            answer = await self._vendor.call("DELETE", _path_of(thread_ref))
            if answer.status >= 300 and answer.status != 404:
                raise _refusal(answer)

    async def aclose(self) -> None:
        await self._vendor.aclose()
        await self._sdk.close()

    async def _send_response(self, request: Request, told: Told | None) -> Done | Running:
        body = partial(_body_of, request)
        if told is not None:
            return await self._stream_response(body, request, told)
        post = self._begin if request.settings.get("background") else self._post
        answer = await self._asked(body, request, partial(_plainly, post, responses.PATH, request))
        return await _read(answer, request, responses.reply_of)

    async def _stream_response(self, body: Body, request: Request, told: Told) -> Done | Running:
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
            if events.id and _is_stored(request):
                error.kept = error.kept or (events.id,)
            if error.error_code not in _LOST_CODES or not request.thread_ref:
                raise
            lost = ThreadLost(error.error_code, detail=error.detail, request_id=error.request_id)
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
        refuse_prompt(request.settings, "chat completions know")
        body = partial(chat.body_of, request)
        if told is None:
            send = partial(_plainly, self._post, chat.PATH, request)
            answer = await self._asked(body, request, send)
        else:
            most = self._vendor.reply_bytes_max
            events = ChatEvents(most=most, counted=request.counted)
            answer = await self._stream(chat.PATH, body, request, events, told)
        if not answer.accepted:
            raise _refusal(answer)
        reply_of = partial(chat.reply_of, request_id=id_in(answer, _REQUEST_ID))
        return await read(answer, reply_of, request_id=_REQUEST_ID)

    async def _stream(
        self, path: str, body: Body, request: Request, events: Assembly, told: Told
    ) -> RawAnswer:
        """Ask for a stream."""
        within = timeout_of(request.settings, default=DEFAULT_TIMEOUT)
        take = partial(answered, assembly=events, told=told)

        async def send(sent: bytes, streams: bool) -> RawAnswer:
            if streams:
                return await self._vendor.stream(path, sent, take, within=within)
            return await self._post(path, sent, request)

        return await self._asked(body, request, send, also=_STREAMED[path])

    async def _asked(
        self, body: Body, request: Request, send: Send, *, also: Mapping[str, Any] = _NOTHING
    ) -> RawAnswer:
        """Ask with all that is wanted, without what the server refuses of it: it is remembered.

        Nothing of the body is kept while the vendor works: thousands of turns wait like this one.
        """
        wanted = {**also, **_cache_key_of(request)}
        refused: set[tuple[str, str]] = set()
        while True:
            known = self._refused | refused if refused else self._refused
            asked = {one: how for one, how in wanted.items() if (request.model, one) not in known}
            if "stream" not in asked:
                asked.pop("stream_options", None)
            answer = await send(encoded({**body(), **asked}), "stream" in asked)
            name = _named_in(answer, asked)
            if not name:
                break
            refused.add((request.model, name))
        if refused and answer.accepted and len(known) < _MOST_REMEMBERED:
            self._refused |= refused
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
    return next((one for one in _NEWER if one in wanted and one.encode() in answer.body), "")


def _cache_key_of(request: Request) -> Mapping[str, str]:
    """Return the key under which a session's requests find one another; a session may set its own.

    What is said once has none: by its beginning alone it finds what others have left.
    """
    settings = request.settings
    if request.is_single or _CACHE_KEY in settings or prompt_cache_of(settings) == "off":
        return _NOTHING
    return {_CACHE_KEY: str(request.session_id)}


async def _plainly(
    post: Callable[[str, bytes, Request], Awaitable[RawAnswer]],
    path: str,
    request: Request,
    sent: bytes,
    streams: bool,
) -> RawAnswer:
    return await post(path, sent, request)


async def _read(answer: RawAnswer, request: Request, reply_of: Callable[..., T]) -> T:
    """Return what `reply_of` makes of a response; raises what its refusal means."""
    if not answer.accepted:
        raise _refusal(answer, thread_ref=request.thread_ref)
    request_id, offered = id_in(answer, _REQUEST_ID), bool(request.tools)

    def read_as(payload: Mapping[str, Any]) -> T:
        stored, thread = _kept_as(request, payload)
        return reply_of(
            payload, chain=stored, request_id=request_id, offered=offered, thread=thread
        )

    return await read(answer, read_as, request_id=_REQUEST_ID)


def _body_of(request: Request) -> dict[str, Any]:
    """Return the body in the thread that it is of; raises ThreadLost for one kept elsewhere."""
    kind, ref = _kind(request), request.thread_ref
    if kind == CLIENT or conversations.is_conversation(ref) != (kind == CONVERSATION):
        refuse_thread(request)
    if kind != CONVERSATION:
        return responses.body_of(request, chain=kind == CHAIN)
    stored = _is_stored(request)
    return responses.body_of(request, chain=False, conversation=ref, store=stored)


def _is_stored(request: Request) -> bool:
    """Tell whether the vendor is asked to store the response: in the background it has to."""
    kind = _kind(request)
    in_conversation = bool(request.thread_ref or request.settings.get("background"))
    return kind == CHAIN or (kind == CONVERSATION and in_conversation)


def _kept_as(request: Request, payload: Mapping[str, Any]) -> tuple[bool, str | None]:
    """Return whether the vendor has stored a response, and the conversation that it is one of.

    None: it is of none, but goes on by itself. Work in the background is looked up by its id alone:
    what was looked up says where it belongs.
    """
    kind = _kind(request)
    if kind != CONVERSATION:
        return kind == CHAIN, None
    thread = name(mapping(payload.get("conversation")).get("id")) or request.thread_ref
    return bool(thread or request.native_ref or request.settings.get("background")), thread


def _api(request: Request) -> str:
    return choice(request.settings, "api", among=("responses", "chat"))


def _kind(request: Request) -> str:
    return choice(request.settings, "thread", among=(CHAIN, CLIENT, CONVERSATION))


def _path_of(response_id: str) -> str:
    return f"{responses.PATH}/{quote(response_id, safe='')}"


def _refusal(answer: RawAnswer, *, thread_ref: str = "") -> ProviderError:
    """Return what a refusal means; of the thread that was named in the request, it may be lost."""
    error = refusal(answer, request_id=_REQUEST_ID, codes=_CODES)
    if isinstance(error, ThreadLocked):
        return error
    if thread_ref and answer.status in (400, 404) and _is_about_thread(answer, thread_ref):
        return ThreadLost(
            _lost_code(error, thread_ref), detail=error.detail, request_id=error.request_id
        )
    return error


def _lost_code(error: ProviderError, thread_ref: str) -> str:
    if error.error_code in _LOST_CODES:
        return error.error_code
    return _CONVERSATION_LOST if conversations.is_conversation(thread_ref) else _LOST


def _is_about_thread(answer: RawAnswer, thread_ref: str) -> bool:
    """Tell whether the refusal is one of the thread rather than of what was said in this turn.

    Forgotten, of another vendor, or of a server that keeps no threads: each has its own code, but
    names the parameter. And a thread that cannot go on, since a call in it has no output, is told
    as a fault of `input` without a code: what the turn itself put there would have one.
    """
    error = error_object_of(answer.body)
    code, param = error.get("code") or "", error.get("param")
    if code in _LOST_CODES or param in _OF_THREADS:
        return True
    if code not in _NO_CODE:
        return False
    is_gone = answer.status == 404 and not param and conversations.is_conversation(thread_ref)
    return is_gone or param == "input"
