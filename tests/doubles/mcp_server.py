"""A real MCP server, made with the SDK: `python -m tests.doubles.mcp_server [PORT]`.

Over stdio, or streamable HTTP on 127.0.0.1 where a port is given; `--stubborn` ignores that its
stdin is closed, and SIGTERM. What its tools do is written down in the world.
"""

import os
import signal
import sys
import time

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ImageContent, TextContent

from tests import world

SECRET = "secret-of-a-server-9c"

server = MCPServer("double", log_level="ERROR")


@server.tool()
def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@server.tool(name="say.it/again")
def say(text: str) -> str:
    """Say it again."""
    sys.stderr.write(f"{SECRET} {text}\n")
    return text


@server.tool()
def note(ctx: Context) -> str:
    """Do something to the world."""
    meta = dict(ctx.request_context.meta or {})
    world.note(done="note", meta=meta.get("turnmill/idempotency_key"))
    return "noted"


@server.tool()
def decline() -> str:
    """Fail, in words for the model."""
    raise ToolError("the card was declined")


@server.tool()
def fail() -> str:
    """Fail, and say why to nobody."""
    raise ValueError(SECRET)


@server.tool()
async def dawdle() -> str:
    """Take too long."""
    await anyio.sleep(60)
    return "too late"


@server.tool()
def shout(length: int) -> str:
    """Return a long text."""
    return "x" * length


@server.tool(structured_output=False)
def show() -> list[TextContent | ImageContent]:
    """Return what is no text."""
    picture = ImageContent(type="image", data="AAAA", mime_type="image/png")
    return [TextContent(type="text", text="see:"), picture]


@server.tool()
def crash() -> str:
    """Take the server with it, in the middle of the call."""
    world.note(done="crash")
    os._exit(3)


@server.tool()
def who() -> int:
    """Tell which process it is."""
    return os.getpid()


def main(arguments: list[str]) -> None:
    """Serve until stdin is closed, or somebody ends it."""
    if "--stubborn" in arguments:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        world.note(stubborn=os.getpid())
    ports = [int(one) for one in arguments if one.isdecimal()]
    if ports:
        server.run("streamable-http", host="127.0.0.1", port=ports[0])
    else:
        server.run("stdio")
    while "--stubborn" in arguments:
        time.sleep(1)


if __name__ == "__main__":
    main(sys.argv[1:])
