"""MCP servers that lie: each call is told what is known of it, and the next one goes on."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.lying_mcp_http import Said, lying
from turnmill.domain.states import Effects
from turnmill.tools import BadCall, ToolError
from turnmill_worker.tools.mcp.configured import ServerSettings, ToolRules
from turnmill_worker.tools.mcp.connection import keep_quiet
from turnmill_worker.tools.mcp.server import McpTool, Server

pytestmark = pytest.mark.anyio
PROGRAM = Path(__file__).parents[1] / "doubles" / "lying_mcp_server.py"
UNREADABLE = "What the tool gave cannot be read. It may have had its effect all the same."
HUNG_UP = "The tool's server hung up before it answered. It may have had its effect all the same."
NOTHING = "The tool's server cannot be reached. Nothing was done."


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


@asynccontextmanager
async def serving(how: str, notes: Path, *, seconds: float = 10) -> AsyncIterator[McpTool]:
    """Give the tool of a program that lies so."""
    args = ("-I", "-S", str(PROGRAM), how, str(notes))
    async with reached(seconds=seconds, command=sys.executable, args=args) as tool:
        yield tool


@asynccontextmanager
async def reached(*, seconds: float = 10, **how: Any) -> AsyncIterator[McpTool]:
    """Give the tool of a server that is reached so."""
    keep_quiet()
    rules = ToolRules(timeout=timedelta(seconds=seconds), effects=Effects.AT_MOST_ONCE)
    server = Server(ServerSettings(name="liar", each=rules, **how))
    tool = server.find("liar__good")
    assert tool is not None
    try:
        yield tool
    finally:
        await server.aclose()


def calls_in(notes: Path) -> int:
    return notes.read_text().count("called") if notes.exists() else 0


async def called(tool: McpTool) -> str:
    try:
        return await tool.function({}, "key")
    except ToolError as error:
        return str(error)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("half a pair", "a\ufffdb\0c"),
        ("byte-order mark", "ok"),
        ("endless pattern", "ok"),
        ("wrong byte", "caf\ufffd"),
        ("null", UNREADABLE),
        ("list", UNREADABLE),
        ("wrong error", UNREADABLE),
        pytest.param("long line", HUNG_UP, marks=pytest.mark.long),
        ("forgotten", "no"),
        ("not sent", "already paid"),
    ],
)
async def test_whatever_it_answers_a_call_is_told_at_once_and_never_made_twice(
    how: str, told: str, notes: Path
) -> None:
    async with serving(how, notes) as tool, asyncio.timeout(8):  # less than a call may take
        assert await called(tool) == told
        assert await called(tool) == told  # and the server is still there, or there again
    assert calls_in(notes) == 2


@pytest.mark.long
async def test_of_a_call_that_never_began_it_is_told_that_nothing_was_done(notes: Path) -> None:
    async with serving("mute", notes, seconds=0.2) as tool:
        assert await called(tool) == NOTHING
    assert calls_in(notes) == 0


@pytest.mark.parametrize("command", ["/no/such", "./no-such", "no-such-program"])
async def test_a_program_that_is_not_there_is_the_reason(command: str, tmp_path: Path) -> None:
    async with reached(command=command, cwd=str(tmp_path)) as tool:
        assert await called(tool) == NOTHING
        assert tool._server.reason == "FileNotFoundError"


async def test_tools_that_are_none_are_left_out_and_the_others_are_there(
    notes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving("well", notes) as tool:
        with caplog.at_level(logging.WARNING, "turnmill.mcp"):
            assert await called(tool) == "ok"
        assert list(tool._server.tools or ()) == ["liar__good"]
    assert "a tool that cannot be read is left out" in caplog.text


async def test_what_a_server_says_again_of_a_call_is_in_no_log(
    notes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with serving("gossip", notes) as tool:
            assert await called(tool) == "ok"
            assert await called(tool) == "ok"
    assert "words of ada" not in caplog.text


@pytest.mark.parametrize(
    "said",
    [
        (202, "application/json", b""),
        (200, "text/html", b"<p>log in"),
        (200, "text/event-stream", b"data: {\n\n"),
        (500, "text/plain", b"secret"),
    ],
    ids=lambda said: f"{said[0]} {said[1]}",
)
async def test_what_says_nothing_of_a_call_may_have_done_it(said: Said) -> None:
    with lying(said) as url:
        async with reached(url=url) as tool:
            told = await called(tool)
    assert told.endswith("It may have had its effect all the same.")
    assert "secret" not in told


@pytest.mark.parametrize("said", [r'{"x": "\ud800"}', '{"x": NaN}', "[1]", "{", "[" * 10_000])
async def test_what_no_server_can_be_sent_is_told_to_the_model(said: str, notes: Path) -> None:
    async with serving("well", notes) as tool:
        with pytest.raises(BadCall):
            tool.arguments(said, None)  # type: ignore[arg-type]
