"""OpenAI, and every server that speaks its Responses API or chat completions."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Self, TypeVar
from urllib.parse import quote

from openai import AsyncOpenAI

from turnmill.domain.content import (
    Attached,
    Audio,
    File,
    Image,
    Kind,
    Message,
    Native,
    Sender,
    Text,
    ToolCall,
    ToolOutput,
)
from turnmill.domain.errors import ProviderError, Rejected
from turnmill.settings import batch_window
from turnmill_worker.providers.answers import id_in, raise_untrue, read, tokens_in
from turnmill_worker.providers.attached import hears, refuse_too_much
from turnmill_worker.providers.counting import input_bound, output_bound
from turnmill_worker.providers.filling import filled
from turnmill_worker.providers.http import RawAnswer, Vendor, encoded, headers_of
from turnmill_worker.providers.keys import account_of
from turnmill_worker.providers.openai import chat, conversations, files, responses
from turnmill_worker.providers.openai.account import sdk_from_env
from turnmill_worker.providers.openai.asking import Asking, Body, followed
from turnmill_worker.providers.openai.batches import OpenAIBatches
from turnmill_worker.providers.openai.bounds import most_output_of
from turnmill_worker.providers.openai.inputs import BOUNDS
from turnmill_worker.providers.openai.keeping import (
    CONVERSATION,
    api_of,
    body_of,
    is_stored,
    kept_as,
    kind_of,
)
from turnmill_worker.providers.openai.refusals import (
    REQUEST_ID,
    lost_in,
    refusal_of,
    refused,
)
from turnmill_worker.providers.openai.streaming import ChatEvents, ResponseEvents
from turnmill_worker.providers.parameters import choice, refuse_prompt, refuse_thread
from turnmill_worker.providers.pictures import counted_by_openai
from turnmill_worker.providers.port import (
    Absent,
    Done,
    Emit,
    Failed,
    PictureBounds,
    Request,
    Running,
    Unknowable,
    Uploaded,
    Usage,
)
from turnmill_worker.providers.pricing import window
from turnmill_worker.providers.streaming import Told
from turnmill_worker.providers.untrusted import tier
from turnmill_worker.providers.usages import used_at_openai
from turnmill_worker.providers.vendor_files import VendorFiles

T = TypeVar("T")

_NOTHING_TO_STOP = frozenset({400, 404})
#: Tiers by the names that an answer has for them.
_TIERS: Mapping[str, str] = MappingProxyType({"auto": "", "fast": "priority"})
#: Tokens of a prompt that the vendor keeps: nobody here has seen it.
_OF_PROMPT = 16_384


class OpenAIProvider:
    """Responses as a thread kept by OpenAI, or with the history sent along.

    Settings: `thread` = chain | conversation | client, `api` = responses | chat, `prompt`,
    `timeout` in seconds. A chain forks where a response is sent again, so a resend costs, but never
    doubles a turn. A conversation does not fork: it is lent to one call, see `lends`.
    """

    name = "openai"
    accepts: frozenset[Kind] = frozenset(
        {Text, Image, File, Audio, ToolCall, ToolOutput, Native, Sender}
    )

    def __init__(self, sdk: AsyncOpenAI) -> None:
        self._sdk = sdk
        #: whose limits and refusals these are; the key itself is told nowhere
        self.account = account_of(str(sdk.base_url), sdk.api_key, sdk.organization, sdk.project)
        self._vendor = Vendor(
            base_url=str(sdk.base_url),
            headers=lambda: headers_of(sdk.default_headers, sdk.auth_headers),
        )
        self._asking = Asking(self._vendor)
        self._files = VendorFiles(self._vendor, files.API, refusal=refusal_of)
        self.batches = OpenAIBatches(self._vendor, window=batch_window())

    @classmethod
    def from_env(cls) -> Self:
        """Read OPENAI_API_KEY, OPENAI_BASE_URL, OPENAI_ORG_ID and OPENAI_PROJECT_ID."""
        return cls(sdk_from_env())

    async def send(self, request: Request, emit: Emit | None = None) -> Done | Running:
        told = None if emit is None else Told(emit)
        if request.files is not None:
            refuse_too_much(request, files.terms_of(request), BOUNDS)
        if api_of(request) == "chat":
            reply: Done | Running = await self._send_chat(request, told)
        else:
            reply = await self._send_response(request, told)
        return reply if told is None or isinstance(reply, Running) else await told.ended(reply)

    def most(self, request: Request, thread: Sequence[Message]) -> Usage:
        """Return what the call may take; in a chain, the reasoning of earlier steps as well."""
        names: tuple[str, ...] = ("max_output_tokens",)
        if api_of(request) == "chat":
            names = ("max_output_tokens", "max_completion_tokens", "max_tokens")
        asked = tier(request.settings.get("service_tier"))
        told = input_bound(request, thread, counted=counted_by_openai(request))
        most = most_output_of(request.model)
        said = output_bound(request.settings, *names, most=most)
        if told is None:
            told = window("openai", request.model)  # nobody can count a document: it is read whole
        if told is not None and request.settings.get("prompt"):
            told += _OF_PROMPT
        if told is not None and request.thread_ref:
            told += said * (request.step - 1)
        return Usage(
            input_tokens=told,
            output_tokens=said,
            cache_write_tokens=told,
            audio_tokens=told if hears(request) else 0,
            audio_output_tokens=said if chat.speaks(request) else 0,
            service_tier=_TIERS.get(asked, asked),
        )

    async def count(self, request: Request) -> int:
        """Ask https://platform.openai.com/docs/api-reference/responses/input-tokens."""
        if api_of(request) == "chat":
            raise Rejected("no_counting", hint="chat completions cannot be counted: exact=False")
        body = responses.counted_body_of(request)
        sent = await filled(encoded(body), request)
        answer = await self._vendor.call("POST", responses.COUNT_PATH, sent)
        if not answer.accepted:
            raise refusal_of(answer)
        return await read(answer, tokens_in, request_id=REQUEST_ID)

    async def check(self, request: Request) -> Done | Running | Failed | Absent | Unknowable:
        if not request.native_ref:
            return Unknowable(resend_is_safe=True)  # the API finds no response by our own names
        answer = await self._vendor.call("GET", _path_of(request.native_ref))
        if answer.status == 404:
            return Unknowable(resend_is_safe=True)
        if not answer.accepted:
            raise refusal_of(answer)
        return await _read(answer, request, responses.found_of)

    async def cancel(self, native_ref: str) -> Done | None:
        """Stop a response in the background, and return what it had used, where that is said.

        One that has ended is returned as it stands, one that is in no background is a 400:
        https://developers.openai.com/api/docs/guides/background
        """
        answer = await self._vendor.call("POST", f"{_path_of(native_ref)}/cancel")
        if answer.accepted:
            return await read(answer, responses.used_by, request_id=REQUEST_ID)
        if answer.status not in _NOTHING_TO_STOP:
            raise refusal_of(answer)
        return None

    def lends(self, request: Request) -> bool:
        """Tell whether the call is one of a conversation; what a chain was cannot be used as one.

        That is raised by `send`, as of any thread that is kept elsewhere.
        """
        is_one = not request.thread_ref or conversations.is_conversation(request.thread_ref)
        return is_one and api_of(request) == "responses" and kind_of(request) == CONVERSATION

    async def begin_thread(self, request: Request) -> str:
        """Begin an empty conversation."""
        return await conversations.begin(self._vendor, request.session_id, refusal=refusal_of)

    async def read_thread(self, thread_ref: str) -> Sequence[Message]:
        """Return what was said in a conversation, or up to a response."""
        return await conversations.read(self._vendor, thread_ref, refusal=refusal_of)

    def uploads(self, request: Request) -> Sequence[Attached]:
        """Return what is better uploaded."""
        return files.named_in(request) if self._files.are_kept else ()

    async def upload(self, request: Request, part: Attached, *, name: str) -> Uploaded:
        """Upload an attachment."""
        return await self._files.upload(request, part, name=name)

    def files_of(self, mark: str) -> AsyncGenerator[Mapping[str, str]]:
        """Yield what was uploaded under names of ours."""
        return self._files.files_of(mark)

    def picture_bounds(self, request: Request) -> PictureBounds:
        """Return how large a picture may be."""
        return BOUNDS

    async def close(self, thread_ref: str) -> None:
        if self._files.is_one(thread_ref):
            await self._files.close(thread_ref)
        elif conversations.is_conversation(thread_ref):
            await conversations.delete(self._vendor, thread_ref, refusal=refusal_of)
        elif thread_ref:
            answer = await self._vendor.call("DELETE", _path_of(thread_ref))
            if answer.accepted:
                raise_untrue(answer)
            elif answer.status != 404:
                raise refusal_of(answer)

    async def aclose(self) -> None:
        await self._vendor.aclose()
        await self._sdk.close()

    async def _send_response(self, request: Request, told: Told | None) -> Done | Running:
        body = partial(body_of, request)
        if told is not None:
            return await self._stream_response(body, request, told)
        in_background = request.settings.get("background")
        ask = self._asking.begun if in_background else self._asking.at_once
        return await _read(await ask(responses.PATH, body, request), request, responses.reply_of)

    async def _stream_response(self, body: Body, request: Request, told: Told) -> Done | Running:
        """Stream a response; what fails may have left one at the vendor."""
        events = ResponseEvents(most=self._vendor.reply_bytes_max)
        streaming = self._asking.streamed(responses.PATH, body, request, events, told)
        try:
            if request.settings.get("background"):
                answer = await followed(streaming, events)
            else:
                answer = await streaming
            return await _read(answer, request, responses.reply_of)
        except ProviderError as error:
            if events.id and is_stored(request):
                error.kept = error.kept or (events.id,)
            raise

    async def _send_chat(self, request: Request, told: Told | None) -> Done:
        choice(request.settings, "thread", among=("client",))
        refuse_thread(request)
        refuse_prompt(request.settings, "chat completions know")
        body = partial(chat.body_of, request)
        if told is None:
            answer = await self._asking.at_once(chat.PATH, body, request)
        else:
            most = self._vendor.reply_bytes_max
            events = ChatEvents(most=most, counted=request.counted)
            answer = await self._asking.streamed(chat.PATH, body, request, events, told)
        if not answer.accepted:
            raise refused(answer, request)
        reply_of = partial(chat.reply_of, request_id=id_in(answer, REQUEST_ID))
        return await read(answer, reply_of, request_id=REQUEST_ID, used_in=used_at_openai)


async def _read(answer: RawAnswer, request: Request, reply_of: Callable[..., T]) -> T:
    """Return what `reply_of` makes of a response; raises what its refusal means."""
    if not answer.accepted:
        raise refused(answer, request)
    request_id, offered = id_in(answer, REQUEST_ID), bool(request.tools)

    def read_as(payload: Mapping[str, Any]) -> T:
        stored, thread = kept_as(request, payload)
        return reply_of(
            payload, chain=stored, request_id=request_id, offered=offered, thread=thread
        )

    try:
        return await read(answer, read_as, request_id=REQUEST_ID, used_in=used_at_openai)
    except ProviderError as error:
        lost = lost_in(error, request)
        if lost is None:
            raise
        lost.kept, lost.used = error.kept, error.used
    raise lost  # out here, so that what the vendor said is not chained to it


def _path_of(response_id: str) -> str:
    return f"{responses.PATH}/{quote(response_id, safe='')}"
