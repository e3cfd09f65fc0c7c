"""One connection to an MCP server, over HTTP or to a program of its own."""

import asyncio
import logging
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client import Transport, session
from mcp.client.streamable_http import streamable_http_client
from mcp.types import Implementation, ToolListChangedNotification

from turnmill import __version__
from turnmill_worker.providers.foreign import name_of
from turnmill_worker.tools.mcp import child
from turnmill_worker.tools.mcp.configured import ServerSettings
from turnmill_worker.tools.mcp.hearing import heard
from turnmill_worker.tools.mcp.http import MOST_BYTES, Guarded

logger = logging.getLogger("turnmill.mcp")

#: For each answer while a connection is made, and for a listing of tools: a program may have to
#: be fetched first.
WITHIN = timedelta(seconds=30)
_CONNECT = timedelta(seconds=10)  #: by TCP and TLS
#: More than a call may take: it is then given up by whoever waits for it.
_LEEWAY = timedelta(seconds=30)
#: To hang up in good order: a program is told to end, and then made to.
_CLOSE = timedelta(seconds=3)
#: As lines of a log say where they come from.
_SESSION = session.ClientSession.__init__.__code__.co_filename


class CannotConnect(Exception):
    """No connection could be made; its words are a type's name."""


class Connection:
    """A client of one server. What it opens is closed by the task that opened it."""

    def __init__(self, settings: ServerSettings, *, changed: Callable[[], None]) -> None:
        """`changed` is called when the server says that its tools are others now."""
        self._settings = settings
        self._changed = changed
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.is_open = False

    async def open(self) -> Client:
        """Connect, and return the client. Raises CannotConnect."""
        opened: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._keep(opened))
        return await opened

    async def close(self) -> None:
        """Hang up; a program is ended."""
        self._hang_up()
        if self._task is not None:
            _, running = await asyncio.wait({self._task}, timeout=_CLOSE.total_seconds())
            for task in running:
                task.cancel()

    async def _keep(self, opened: asyncio.Future[Client]) -> None:
        """Open, wait for the end, close: all in one task, as the SDK wants it."""
        try:
            async with self._client() as client:
                if opened.done():
                    return  # nobody waits for it any more
                self.is_open = not self._closing.is_set()
                opened.set_result(client)
                await self._closing.wait()
        except Exception as error:  # noqa: BLE001
            # The edge to a server and the SDK, whose errors may quote what was said.
            reason = _reason(error)
            if not opened.done():
                opened.set_exception(CannotConnect(reason))
            else:
                logger.warning("MCP server %s: %s", self._settings.name, reason)
        finally:
            self.is_open = False
            if not opened.done():
                opened.set_exception(CannotConnect("cancelled"))

    def _hang_up(self) -> None:
        self.is_open = False
        self._closing.set()

    def _client(self) -> Client:
        settings = self._settings
        transport = _over_http(settings) if settings.url else _to_program(settings)
        return Client(
            _Watched(transport, self._hang_up, server=settings.name),
            read_timeout_seconds=WITHIN.total_seconds(),
            message_handler=self._hear,
            client_info=Implementation(name="turnmill", version=__version__),
            cache=None,
        )

    async def _hear(self, message: object) -> None:
        if isinstance(message, ToolListChangedNotification):
            self._changed()


@asynccontextmanager
async def _over_http(settings: ServerSettings) -> AsyncIterator[Any]:
    longest = (settings.longest + _LEEWAY).total_seconds()
    async with (
        httpx2.AsyncClient(
            transport=Guarded(httpx2.AsyncHTTPTransport()),
            headers={**settings.headers, "accept-encoding": "identity"},
            timeout=httpx2.Timeout(_CONNECT.total_seconds(), read=longest),
        ) as http,
        streamable_http_client(
            settings.url, http_client=http, max_sse_event_size=MOST_BYTES
        ) as streams,
    ):
        yield streams


@asynccontextmanager
async def _to_program(settings: ServerSettings) -> AsyncIterator[Any]:
    """Run the program in a process group that ends with ours, whatever becomes of us."""
    _require_program(settings)
    program = StdioServerParameters(
        command=sys.executable,
        args=[
            *("-I", "-S", str(Path(child.__file__))),
            *(str(os.getpid()), str(MOST_BYTES), settings.command, *settings.args),
        ],
        env=dict(settings.env),
        cwd=settings.cwd,
        encoding_error_handler="replace",  # one wrong byte is no reason to hang up
    )
    with Path(os.devnull).open("w") as nothing:  # noqa: ASYNC230  it never blocks
        # Of whoever says there what it was called with, nothing gets into our log unasked.
        errors = sys.__stderr__ if settings.stderr and sys.__stderr__ is not None else nothing
        async with stdio_client(program, errlog=errors) as streams:
            yield streams


def _require_program(settings: ServerSettings) -> None:
    """Raise FileNotFoundError where there is none: what is between would only say that it ended."""
    path = settings.env.get("PATH", os.environ.get("PATH"))
    named = Path(settings.cwd or "", settings.command) if os.sep in settings.command else None
    if shutil.which(settings.command if named is None else str(named), path=path) is None:
        raise FileNotFoundError(settings.command)


class _Watched(Transport):
    """A transport that tells when the other side has hung up."""

    def __init__(
        self, inner: AbstractAsyncContextManager[Any], hung_up: Callable[[], None], *, server: str
    ) -> None:
        self._inner = inner
        self._hung_up = hung_up
        self._server = server

    async def __aenter__(self) -> Any:
        read, write = await self._inner.__aenter__()
        return _Told(read, self._hung_up, server=self._server), write

    async def __aexit__(self, *raised: Any) -> bool | None:
        return await self._inner.__aexit__(*raised)


class _Told:
    """A stream of messages as far as they can be read, and who is told of its end."""

    def __init__(self, inner: Any, ended: Callable[[], None], *, server: str) -> None:
        self._inner = inner
        self._ended = ended
        self._server = server

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __aiter__(self) -> "_Told":
        return self

    async def __anext__(self) -> Any:
        try:
            said = await self._inner.__anext__()
        except StopAsyncIteration:
            self._ended()
            raise
        return heard(said, server=self._server)

    async def __aenter__(self) -> "_Told":
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> Any:
        return await self._inner.__aexit__(*raised)


def keep_quiet() -> None:
    """Let the SDK log nothing: its lines may quote what a server said, and name sessions."""
    logging.getLogger("mcp").setLevel(logging.CRITICAL + 1)
    # What a server says unasked it logs under a name that may be an application's as well.
    session.logger.addFilter(_is_of_somebody_else)
    for name in ("httpx2", "httpcore2"):
        http = logging.getLogger(name)
        if http.level == logging.NOTSET:
            http.setLevel(logging.WARNING)  # below that they have every URL and header in full


def _is_of_somebody_else(record: logging.LogRecord) -> bool:
    """Let a line pass that the SDK has not written."""
    return record.pathname != _SESSION


def _reason(error: BaseException) -> str:
    """Return the name of what was raised at the root of it."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    name = name_of(error)
    with suppress(Exception):
        code = getattr(error, "code", None)
        return f"{name} {code}" if type(code) is int else name
    return name
