"""One MCP server as a process of ours knows it: its tools, and calls of them."""

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar, cast

from mcp import Client, MCPError
from mcp.types import (
    CONNECTION_CLOSED,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    PARSE_ERROR,
    RequestParamsMeta,
    Tool,
)
from pydantic_core import from_json

from turnmill.domain.states import Effects
from turnmill.tools import BadCall, ToolContext, ToolError
from turnmill_worker.providers.foreign import name_of
from turnmill_worker.tools.mcp.answers import (
    description_of,
    distinct,
    name_of_tool,
    output_of,
    schema_of,
)
from turnmill_worker.tools.mcp.configured import ServerSettings, ToolRules
from turnmill_worker.tools.mcp.connection import CannotConnect, Connection
from turnmill_worker.tools.mcp.http import FORGOTTEN, LOST, MARK, NOT_SENT
from turnmill_worker.tools.runnable import Failed

logger = logging.getLogger("turnmill.mcp")

T = TypeVar("T")

MOST_TOOLS = 1_000  #: of one server
_MOST_PAGES = 100
#: Calls of one server's tools that a process makes at once.
_AT_ONCE = 64
#: A listing is looked at again after this, if anybody asks.
_FRESH = timedelta(minutes=1)
#: A server that cannot be reached is tried again after pauses from and to these.
_PAUSES = timedelta(seconds=1), timedelta(seconds=30)
#: Under this name a server is told `ToolContext.idempotency_key`.
KEY = "turnmill/idempotency_key"

UNREACHABLE = "mcp_unreachable"
INTERRUPTED = "mcp_interrupted"
UNREADABLE = "mcp_unreadable"
#: What the SDK says, and no server, for which its codes are as good as any.
_HUNG_UP = ("Connection closed", "SSE stream")
_NO_ANSWER = (
    *("Failed to parse JSON response", "Failed to parse SSE message"),
    *("Unexpected content type", "server answered a request with 202"),
)
_CODES_OF_NO_ANSWER = (PARSE_ERROR, INVALID_REQUEST, INTERNAL_ERROR)
_BY_STATUS = "Server returned an error response"  #: it has said so by HTTP alone
#: Of the time of a call, until when it may not have begun yet: later it is told that nothing was
#: done, which is known, and not that its time is over.
_TO_BEGIN = 0.9
_MAY_HAVE_HAPPENED = " It may have had its effect all the same."


class McpTool:
    """A tool of a server: as runnable as one that the decorator has made."""

    is_async = True
    runs_to_read = False

    def __init__(
        self,
        server: "Server",
        theirs: str,
        *,
        name: str,
        description: str,
        parameters: Mapping[str, Any],
        rules: ToolRules,
    ) -> None:
        """`theirs` is the server's name of it; empty where the server could not be asked yet."""
        self.theirs = theirs
        self.name = name
        self.description = description
        self.parameters = parameters
        self.timeout, self.effects = rules.timeout, rules.effects
        self.approval, self.expires = rules.approval, rules.expires
        self._server = server

    def __repr__(self) -> str:
        return f"<McpTool {self.name}>"

    def arguments(self, said: str, context: ToolContext) -> dict[str, Any]:
        """Return what the function takes. Whether it fits the schema is for the server to say."""
        try:
            # It refuses half a pair of surrogates, too, which no server could be sent.
            given = from_json(said or "{}", allow_inf_nan=False)
        except ValueError:
            raise BadCall("the arguments are no JSON") from None
        if not isinstance(given, dict):
            raise BadCall("the arguments are no JSON object")
        return {"arguments": given, "key": context.idempotency_key}

    async def function(self, arguments: dict[str, Any], key: str) -> str:
        """Call it, and return what the model is told. Raises ToolError."""
        return await self._server.call(self, arguments, key=key)


class Server:
    """One server. Used on one event loop, where the first call or look makes a connection."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.tools: Mapping[str, McpTool] | None = None  #: None: it was never reached
        self.reason = ""  #: why it cannot be reached, in a word
        self._connection: Connection | None = None
        self._client: Client | None = None
        self._opening: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._fresh_until = 0.0
        self._again_at = 0.0
        self._pause = _PAUSES[0]

    def find(self, name: str) -> McpTool | None:
        """Return the tool that models call so; None where the server has none of that name.

        While it could not be reached yet, each may be there: what is called then is told so.
        """
        if self.tools is not None:
            return self.tools.get(name)
        said = self.settings
        if said.only is not None and name not in {
            name_of_tool(said.name, one) for one in said.only
        }:
            return None
        own = {name_of_tool(said.name, theirs): rules for theirs, rules in said.tools.items()}
        return McpTool(
            self,
            "",
            name=name,
            description="Cannot be reached at the moment.",
            parameters={"type": "object", "properties": {}},
            rules=own.get(name, said.each),
        )

    @property
    def is_fresh(self) -> bool:
        """Tell whether its tools were listed, or that was tried, a moment ago."""
        return asyncio.get_running_loop().time() < self._fresh_until

    async def look(self) -> None:
        """List the tools, unless that was done a moment ago. Where it fails, the old ones stand."""
        if not self.is_fresh:
            # Whoever waits may be cancelled: the others wait for the same.
            await asyncio.shield(self.begin_to_look())

    def begin_to_look(self) -> asyncio.Task[None]:
        """Do so beside everything else; at most once at a time."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        return self._looking

    async def call(self, tool: McpTool, arguments: dict[str, Any], *, key: str) -> str:
        """Return what the tool gave. Raises ToolError, in words for the model."""
        until = asyncio.get_running_loop().time() + _TO_BEGIN * tool.timeout.total_seconds()
        await self._in_time(self._places.acquire(), until)
        try:
            if not tool.theirs:
                tool = await self._in_time(self._resolved(tool.name), until)
            with suppress(_Forgotten):
                return await self._called(tool, arguments, key=key, until=until)
            # The server was started anew, say, and has executed nothing.
            with suppress(_Forgotten):
                return await self._called(tool, arguments, key=key, until=until)
            raise self._unreachable()
        finally:
            self._places.release()

    async def aclose(self) -> None:
        """Hang up; a program is ended."""
        for task in (self._opening, self._looking):
            if task is not None:
                task.cancel()
        if self._connection is not None:
            await self._connection.close()

    async def _resolved(self, name: str) -> McpTool:
        """Return a tool that was offered before the server could be asked. Raises Failed."""
        await self.look()
        if self.tools is None:
            raise self._unreachable()
        if name not in self.tools:
            raise Failed("unknown_tool", "There is no such tool.")
        return self.tools[name]

    async def _in_time(self, work: Awaitable[T], until: float) -> T:
        """Wait for what has to be before a call. Raises Failed where it takes too long."""
        try:
            async with asyncio.timeout_at(until):
                return await work
        except TimeoutError:
            raise self._unreachable() from None

    async def _called(
        self, tool: McpTool, arguments: dict[str, Any], *, key: str, until: float
    ) -> str:
        client = await self._in_time(self._connected(), until)
        connection = self._connection
        meta = cast("RequestParamsMeta", {KEY: key})
        seconds = tool.timeout.total_seconds() + 1  # it is given up by whoever waits before that
        try:
            result = await client.call_tool(
                tool.theirs, arguments, read_timeout_seconds=seconds, meta=meta
            )
        except MCPError as error:
            if _of_ours(error) == FORGOTTEN:
                await self._drop(connection)
                raise _Forgotten from None
            raise self._failed(error, tool) from None
        except Exception as error:  # noqa: BLE001
            # The edge to a server, and to the SDK that reads what it says.
            logger.warning("MCP server %s: %s in a call", self.settings.name, name_of(error))
            raise _unreadable(tool) from None
        return output_of(result)

    def _failed(self, error: MCPError, tool: McpTool) -> ToolError:
        ours = _of_ours(error)
        if ours == NOT_SENT:
            return self._unreachable()
        words = error.message
        if ours == LOST or (error.code == CONNECTION_CLOSED and words.startswith(_HUNG_UP)):
            words = "The tool's server hung up before it answered."
            return Failed(INTERRUPTED, words + _effect(tool))
        if error.code in _CODES_OF_NO_ANSWER and words.startswith(_NO_ANSWER):
            return _unreadable(tool)
        if error.code == INTERNAL_ERROR and words == _BY_STATUS:
            words += "." + _effect(tool)
        return Failed("mcp_error", words or "The tool failed.")

    async def _connected(self) -> Client:
        """Return a client that is connected. Raises Failed."""
        connection, client = self._connection, self._client
        if connection is None or client is None or not connection.is_open:
            loop = asyncio.get_running_loop()
            if self._opening is None or self._opening.done():
                if loop.time() < self._again_at:
                    raise self._unreachable()
                self._opening = asyncio.create_task(self._open())
            await asyncio.shield(self._opening)
            client = self._client
        if client is None:
            raise self._unreachable()
        return client

    async def _open(self) -> None:
        """Connect anew; what came of it stands in our fields."""
        self._client = None
        connection = self._connection = Connection(self.settings, changed=self._expire)
        self._expire()  # another process may answer now, with other tools
        try:
            self._client = await connection.open()
        except CannotConnect as error:
            self._shut_out(str(error))

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            client = await self._connected()
            self.tools = self._offered(await _listed(client))
        except Failed:
            pass  # it said so already
        except Exception as error:  # noqa: BLE001
            # The edge to a server, and to the SDK that reads what it says.
            code = f" {error.code}" if isinstance(error, MCPError) else ""
            self._shut_out(f"{name_of(error)}{code}")
        else:
            self.reason, self._pause = "", _PAUSES[0]
            self._fresh_until = loop.time() + _FRESH.total_seconds()
            return
        self._fresh_until = self._again_at

    def _offered(self, found: list[Tool]) -> dict[str, McpTool]:
        only, name = self.settings.only, self.settings.name
        offered: dict[str, McpTool] = {}
        for tool in distinct(found):
            if only is not None and tool.name not in only:
                continue
            schema = schema_of(tool)
            if schema is None:
                logger.warning("MCP server %s: a tool's schema is too large, or is none", name)
                continue
            called = name_of_tool(name, tool.name)
            offered[called] = self._tool(
                tool.name, name=called, description=description_of(tool), parameters=schema
            )
        return offered

    def _tool(
        self, theirs: str, *, name: str, description: str, parameters: Mapping[str, Any]
    ) -> McpTool:
        rules = self.settings.rules_of(theirs)
        return McpTool(
            self, theirs, name=name, description=description, parameters=parameters, rules=rules
        )

    def _expire(self) -> None:
        self._fresh_until = 0.0

    def _shut_out(self, reason: str) -> None:
        """Note that it cannot be reached, and when that is tried again."""
        if reason != self.reason:
            logger.warning("MCP server %s cannot be reached: %s", self.settings.name, reason)
        self.reason = reason
        now = asyncio.get_running_loop().time()
        self._again_at = now + self._pause.total_seconds()
        self._pause = min(2 * self._pause, _PAUSES[1])

    async def _drop(self, connection: Connection | None) -> None:
        if connection is not None and self._connection is connection:
            self._connection = self._client = None
            await connection.close()

    def _unreachable(self) -> Failed:
        return Failed(UNREACHABLE, "The tool's server cannot be reached. Nothing was done.")


class _Forgotten(Exception):
    """The server knows nothing of our session, and has executed nothing."""


def _of_ours(error: MCPError) -> int | None:
    """Return which error it is that no server sends, but we; None for one of a server's."""
    return error.code if error.data == MARK else None


def _unreadable(tool: McpTool) -> Failed:
    return Failed(UNREADABLE, "What the tool gave cannot be read." + _effect(tool))


def _effect(tool: McpTool) -> str:
    return "" if tool.effects is Effects.NONE else _MAY_HAVE_HAPPENED


async def _listed(client: Client) -> list[Tool]:
    """Return all tools of a server, up to a bound."""
    found: list[Tool] = []
    cursor: str | None = None
    for _ in range(_MOST_PAGES):
        page = await client.list_tools(cursor=cursor)
        found += page.tools
        cursor = page.next_cursor
        if cursor is None or len(found) >= MOST_TOOLS:
            break
    return found[:MOST_TOOLS]
