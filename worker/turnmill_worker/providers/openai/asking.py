"""Asking a server that speaks OpenAI's APIs: at once, in a stream, or for background work."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import Any

from turnmill.domain.errors import ProviderError
from turnmill_worker.http1.body import Body as SentBody
from turnmill_worker.providers.failures import error_object_of
from turnmill_worker.providers.filling import filled
from turnmill_worker.providers.http import DEFAULT_TIMEOUT, RawAnswer, Vendor, encoded
from turnmill_worker.providers.openai import chat, responses
from turnmill_worker.providers.openai.streaming import ResponseEvents
from turnmill_worker.providers.parameters import prompt_cache_of, timeout_of
from turnmill_worker.providers.port import Request
from turnmill_worker.providers.rereading import come_back, is_gone, let_go
from turnmill_worker.providers.streaming import Assembly, Told, answered

logger = logging.getLogger("turnmill.providers")

#: Makes a body, as often as one is sent.
Body = Callable[[], dict[str, Any]]
#: A body as it is sent: whole, or in pieces where files go along.
Sent = bytes | SentBody
#: Sends what was encoded.
Send = Callable[[Sent], Awaitable[RawAnswer]]

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
#: Of what a tool is for, some of its models take so many characters, and refuse the request else.
_DESCRIPTION, _DESCRIPTION_MAX = "tools.description", 1024
_IS_LONG = re.compile(rb"tools\[\d+\]\.(?:function\.)?description\b.{0,200}too long", re.DOTALL)
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_MOST_REMEMBERED = 1_000
_NAMED_WITHIN = timedelta(seconds=3)


class Asking:
    """Sends bodies, and leaves out what the server refuses of ours: that is remembered."""

    def __init__(self, vendor: Vendor) -> None:
        self._vendor = vendor
        #: what the server refuses, of which model
        self._refused: frozenset[tuple[str, str]] = frozenset()

    def at_once(self, path: str, body: Body, request: Request) -> Coroutine[Any, Any, RawAnswer]:
        """Ask for an answer as a whole."""
        return self._asked(body, request, partial(self._post, path, request))

    def begun(self, path: str, body: Body, request: Request) -> Coroutine[Any, Any, RawAnswer]:
        """Ask for what goes on in the background."""
        return self._asked(body, request, partial(self._begin, path, request))

    def streamed(
        self, path: str, body: Body, request: Request, events: Assembly, told: Told
    ) -> Coroutine[Any, Any, RawAnswer]:
        """Ask for a stream; a server that refuses to stream is asked for an answer as a whole."""
        within = timeout_of(request.settings, default=DEFAULT_TIMEOUT)
        take = partial(answered, assembly=events, told=told)
        stream = partial(self._vendor.stream, path, take=take, within=within)
        whole = partial(self._post, path, request)
        return self._asked(body, request, whole, stream=stream, also=_STREAMED[path])

    async def _asked(
        self,
        body: Body,
        request: Request,
        send: Send,
        *,
        stream: Send | None = None,
        also: Mapping[str, Any] = _NOTHING,
    ) -> RawAnswer:
        """Ask with all that is wanted, without what the server refuses of it: it is remembered.

        Nothing of the body, nor of what it was made of, is kept while the vendor works: thousands
        of turns wait like this one.
        """
        wanted = {**also, **_cache_key_of(request)}
        refused: set[tuple[str, str]] = set()
        while True:
            known = self._refused | refused if refused else self._refused
            asked = _without(known, wanted, request.model) if known else wanted
            if is_gone(request):
                await come_back(request)
            whole = encoded(_taken(body() | asked, request.model, known))
            let_go(request)
            sent = whole if request.files is None else await filled(whole, request)
            asking = (stream if stream is not None and "stream" in asked else send)(sent)
            del whole, sent
            answer = await asking
            name = _named_in(answer, asked)
            if not name or (request.model, name) in known:
                break
            refused.add((request.model, name))
        if refused and answer.accepted and len(known) < _MOST_REMEMBERED:
            self._remember(refused)
        return answer

    def _remember(self, refused: set[tuple[str, str]]) -> None:
        for model in [model for model, name in refused if name == _DESCRIPTION]:
            logger.warning(
                "tools are described to %s in %d characters, since it takes no more",
                model,
                _DESCRIPTION_MAX,
                extra={"action": "description_cut", "model": model},
            )
        self._refused |= refused

    async def _begin(self, path: str, request: Request, body: Sent) -> RawAnswer:
        """Begin what goes on though we hang up: a call that is closed waits for its id a little.

        Only by that can the work be found again, or stopped.
        """
        posting = asyncio.ensure_future(self._post(path, request, body))
        try:
            return await asyncio.shield(posting)
        except asyncio.CancelledError:
            done, _ = await asyncio.wait([posting], timeout=_NAMED_WITHIN.total_seconds())
            if done and not posting.cancelled() and posting.exception() is None:
                return posting.result()
            raise
        finally:
            posting.cancel()

    def _post(self, path: str, request: Request, body: Sent) -> Coroutine[Any, Any, RawAnswer]:
        within = timeout_of(request.settings, default=DEFAULT_TIMEOUT)
        return self._vendor.call("POST", path, body, within=within)


async def followed(streaming: Coroutine[Any, Any, RawAnswer], events: ResponseEvents) -> RawAnswer:
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


def _without(
    known: Collection[tuple[str, str]], wanted: Mapping[str, Any], model: str
) -> dict[str, Any]:
    """Return what is wanted and not known to be refused."""
    left = {one: how for one, how in wanted.items() if (model, one) not in known}
    if "stream" not in left:
        left.pop("stream_options", None)
    return left


def _taken(body: dict[str, Any], model: str, known: Collection[tuple[str, str]]) -> dict[str, Any]:
    """Return the body, its tools described as briefly as the model takes it."""
    if (model, _DESCRIPTION) in known and "tools" in body:
        body["tools"] = [*map(_brief, body["tools"])]
    return body


def _brief(tool: Any) -> Any:
    if not isinstance(tool, dict):
        return tool
    if "function" in tool:
        return {**tool, "function": _brief(tool["function"])}
    said = tool.get("description")
    if not isinstance(said, str) or len(said) <= _DESCRIPTION_MAX:
        return tool
    return {**tool, "description": f"{said[: _DESCRIPTION_MAX - 1].rstrip()}…"}


def _named_in(answer: RawAnswer, wanted: Collection[str]) -> str:
    """Return which of the parameters a refusal names, or ""."""
    if answer.status not in (400, 422):
        return ""
    if _IS_LONG.search(answer.body):
        return _DESCRIPTION
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
