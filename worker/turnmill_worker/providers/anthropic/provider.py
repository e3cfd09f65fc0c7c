"""Anthropic's Messages: the history is held by us and sent with each turn, or a thread has it."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Self

from anthropic import AsyncAnthropic

from turnmill.domain.content import (
    Attached,
    File,
    Image,
    Kind,
    Message,
    Native,
    Text,
    ToolCall,
    ToolOutput,
)
from turnmill.domain.errors import ProviderError
from turnmill_worker.http1.body import Body
from turnmill_worker.providers.answers import id_in, read, tokens_in
from turnmill_worker.providers.anthropic import files, messages
from turnmill_worker.providers.anthropic.argument_names import by_own_names
from turnmill_worker.providers.anthropic.batches import AnthropicBatches
from turnmill_worker.providers.anthropic.messages import Paused
from turnmill_worker.providers.anthropic.refusals import REQUEST_ID, refusal_of
from turnmill_worker.providers.anthropic.sources import bounds_of, terms_of
from turnmill_worker.providers.anthropic.streaming import Counted, MessageEvents
from turnmill_worker.providers.anthropic.threads import BETAS, Thread, Threads
from turnmill_worker.providers.attached import refuse_too_much
from turnmill_worker.providers.filling import filled
from turnmill_worker.providers.http import DEFAULT_TIMEOUT, RawAnswer, Vendor, encoded, headers_of
from turnmill_worker.providers.keys import account_of, key_in, value_in
from turnmill_worker.providers.parameters import refuse_prompt, timeout_of
from turnmill_worker.providers.port import (
    Absent,
    Done,
    Emit,
    PictureBounds,
    Request,
    Running,
    Unknowable,
    Uploaded,
    Usage,
    used_by,
)
from turnmill_worker.providers.rereading import come_back, is_gone, let_go
from turnmill_worker.providers.streaming import Told, answered
from turnmill_worker.providers.usages import used_at_anthropic
from turnmill_worker.providers.vendor_files import VendorFiles, lost_file, without_file

#: Requests of one answer, which the vendor pauses where it searches for long.
_ROUNDS = 8

#: What a server that does not know breakpoints says of them.
_MARK = b"cache_control"
_WRONG = frozenset({400, 422})
_MOST_REMEMBERED = 1_000


class AnthropicProvider:
    """Messages. What the vendor keeps goes by itself: a resend costs, but never doubles a turn.

    Settings: `thread` = client | chain, `max_output_tokens` (8192 unless given), `timeout` in
    seconds.
    """

    name = "anthropic"
    accepts: frozenset[Kind] = frozenset({Text, Image, File, ToolCall, ToolOutput, Native})

    def __init__(self, sdk: AsyncAnthropic) -> None:
        self._sdk = sdk
        #: whose limits and refusals these are; the key itself is told nowhere
        self.account = account_of(str(sdk.base_url), sdk.api_key)
        self._vendor = Vendor(
            base_url=str(sdk.base_url),
            headers=lambda: headers_of(sdk.default_headers, sdk.auth_headers),
        )
        self._files = VendorFiles(self._vendor, files.API, refusal=refusal_of)
        self.batches = AnthropicBatches(self._vendor)
        #: models whose server takes no breakpoints
        self._unmarked: frozenset[str] = frozenset()
        self._threads = Threads(
            betas=str(sdk.default_headers.get(BETAS) or ""),
            key=sdk.api_key or sdk.auth_token or "",
        )

    @classmethod
    def from_env(cls) -> Self:
        """Read ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL."""
        key, base_url = key_in("ANTHROPIC_API_KEY"), value_in("ANTHROPIC_BASE_URL")
        # Its own spans may be told by the environment to hold the content of messages.
        return cls(
            AsyncAnthropic(api_key=key, base_url=base_url, max_retries=0, open_telemetry=False)
        )

    async def send(self, request: Request, emit: Emit | None = None) -> Done | Running:
        refuse_prompt(request.settings, "Anthropic keeps")
        thread = self._threads.of(request)
        if request.files is not None:
            refuse_too_much(request, terms_of(request), bounds_of(request))
        told = None if emit is None else Told(emit)
        within = timeout_of(request.settings, default=DEFAULT_TIMEOUT)
        reply = await self._answered(request, within, told, thread)
        return reply if told is None else await told.ended(reply)

    def most(self, request: Request, thread: Sequence[Message]) -> Usage:
        return messages.most_of(request, thread)

    async def count(self, request: Request) -> int:
        """Ask https://docs.claude.com/en/api/messages-count-tokens."""
        body = messages.counted_body_of(request)
        sent = await filled(encoded(body), request)
        answer = await self._vendor.call("POST", messages.COUNT_PATH, sent)
        if not answer.accepted:
            raise refusal_of(answer)
        return await read(answer, tokens_in, request_id=REQUEST_ID)

    async def _answered(
        self, request: Request, within: timedelta, told: Told | None, thread: Thread | None
    ) -> Done:
        """Return the whole answer: where the vendor pauses, it is asked to go on."""
        paused: Paused | None = None
        try:
            for left in reversed(range(_ROUNDS)):
                body = partial(
                    messages.body_of, request, paused=paused, stream=told is not None, thread=thread
                )
                counted = messages.counting(request, paused)
                post = partial(self._post, within, told, counted, self._threads.headers_of(thread))
                answer = await self._asked(body, post, request)
                if not answer.accepted:
                    if not self._threads.goes_without(thread, answer):
                        raise _refused(answer, request)
                    thread = None
                    continue
                # A thread that goes on was sent too little to go on without it.
                may_pause = left > 0 and (thread is None or not thread.after)
                reply = await _read(answer, before=paused, may_pause=may_pause, thread=thread)
                if isinstance(reply, Done):
                    return by_own_names(reply, request.tools)
                paused, thread = reply, None
        except ProviderError as error:
            error.used = messages.used_until(paused, used_by(error))
            raise
        raise AssertionError("the last round does not pause")

    async def _asked(
        self,
        body: Callable[..., dict[str, Any]],
        post: Callable[[bytes | Body], Awaitable[RawAnswer]],
        request: Request,
    ) -> RawAnswer:
        """Ask, without breakpoints where the server refuses those: it is remembered.

        Nothing of the body is kept while the vendor works: thousands of turns wait like this one.
        """
        model = request.model
        if model in self._unmarked:
            return await post(await _whole(partial(body, marked=False), request))
        answer = await post(await _whole(body, request))
        if answer.status not in _WRONG or _MARK not in answer.body:
            return answer
        answer = await post(await _whole(partial(body, marked=False), request))
        if answer.accepted and len(self._unmarked) < _MOST_REMEMBERED:
            self._unmarked |= {model}
        return answer

    async def _post(
        self,
        within: timedelta,
        told: Told | None,
        counted: Counted | None,
        headers: Mapping[str, str] | None,
        body: bytes | Body,
    ) -> RawAnswer:
        if told is None:
            asking = self._vendor.call("POST", messages.PATH, body, within=within, headers=headers)
            del body
            return await asking
        told.goes_on()
        events = MessageEvents(most=self._vendor.reply_bytes_max, counted=counted)
        take = partial(answered, assembly=events, told=told)
        return await self._vendor.stream(messages.PATH, body, take, within=within, headers=headers)

    async def check(self, request: Request) -> Done | Running | Absent | Unknowable:
        return Unknowable(resend_is_safe=True)  # the API keeps nothing that could be looked up

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
        return bounds_of(request)

    async def close(self, thread_ref: str) -> None:
        """Delete a file: a thread cannot be, and is gone in minutes."""
        if self._files.is_one(thread_ref):
            await self._files.close(thread_ref)

    async def aclose(self) -> None:
        await self._vendor.aclose()
        await self._sdk.close()


async def _whole(body: Callable[[], dict[str, Any]], request: Request) -> bytes | Body:
    """Return a body as it is sent: in pieces where files go along. Its history may go then."""
    if is_gone(request):
        await come_back(request)
    whole = encoded(body())
    let_go(request)
    return whole if request.files is None else await filled(whole, request)


def _refused(answer: RawAnswer, request: Request) -> ProviderError:
    """Return what a refusal of this request means: it may be a file that is lost."""
    error = refusal_of(answer)
    return without_file(error, request) if lost_file(answer, request) else error


async def _read(
    answer: RawAnswer, *, before: Paused | None, may_pause: bool, thread: Thread | None
) -> Done | Paused:
    request_id = id_in(answer, REQUEST_ID)

    def reply_of(payload: Mapping[str, Any]) -> Done | Paused:
        if may_pause and (paused := messages.pause_in(payload, before=before)):
            return paused
        reply = messages.reply_of(payload, request_id=request_id, before=before)
        return reply if thread is None else replace(reply, thread_ref=thread.name_of(payload))

    return await read(answer, reply_of, request_id=REQUEST_ID, used_in=used_at_anthropic)
