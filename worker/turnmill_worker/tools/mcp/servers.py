"""The MCP servers of a process; nothing of MCP is imported where there are none."""

import asyncio
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from turnmill.domain.errors import MissingExtra
from turnmill.settings import Profile
from turnmill_worker.tools.mcp.configured import BETWEEN, VARIABLE, ServerSettings, configured
from turnmill_worker.tools.runnable import Runnable

if TYPE_CHECKING:
    from turnmill_worker.tools.mcp.server import Server

#: So long a turn waits for a listing; then it goes on with what is known.
_PATIENCE = 10.0
_LATE = "it has not answered in time"


class Servers:
    """All of them, by name."""

    def __init__(self, settings: Iterable[ServerSettings]) -> None:
        """Raises MissingExtra where the package is missing; connects to nothing."""
        self._servers: dict[str, Server] = {}
        for one in settings:
            self._servers[one.name] = _server(one)

    def all(self) -> list["Server"]:
        """Return them in their order."""
        return list(self._servers.values())

    def has(self, name: str) -> bool:
        """Tell whether a tool of this name would be one of a server's."""
        return self._of(name) is not None

    def find(self, name: str) -> Runnable | None:
        """Return the tool that models call so; None where no server has it."""
        server = self._of(name)
        return None if server is None else server.find(name)

    async def look(self, names: Iterable[str]) -> None:
        """Learn of the servers whose tools these are what they have, as far as they answer."""
        named = {server.settings.name: server for one in names if (server := self._of(one))}
        stale = [one for one in named.values() if not one.is_fresh]
        for failing in (one for one in stale if one.reason):
            failing.begin_to_look()  # nobody waits for what has just failed
        if healthy := [one for one in stale if not one.reason]:
            await _look(healthy)

    async def look_at_all(self) -> None:
        """Learn of every server what it has, as far as it answers."""
        await _look(self._servers.values())

    async def aclose(self) -> None:
        """Hang up everywhere, at once; programs are ended."""
        await asyncio.gather(*(one.aclose() for one in self._servers.values()))

    def _of(self, name: str) -> "Server | None":
        server, between, _ = name.partition(BETWEEN)
        return self._servers.get(server) if between else None


async def _look(servers: Iterable["Server"]) -> None:
    looks = {asyncio.ensure_future(one.look()): one for one in servers}
    _, late = await asyncio.wait(looks, timeout=_PATIENCE)
    for look in late:
        look.cancel()  # whoever looks goes on: the next one finds what came of it
        looks[look].reason = looks[look].reason or _LATE


def servers_in(file: Path | None, *, profile: Profile) -> Servers | None:
    """Return the servers of the operator's file; None without one.

    Raises ConfigurationError, as a worker does at its start.
    """
    return None if file is None else Servers(configured(file, profile=profile))


def _server(settings: ServerSettings) -> "Server":
    if find_spec("mcp") is None:
        raise MissingExtra(
            f"{VARIABLE} needs the package mcp, which is not installed",
            hint="pip install 'turnmill[mcp]'",
        )
    from turnmill_worker.tools.mcp.connection import keep_quiet  # noqa: PLC0415  a second of work
    from turnmill_worker.tools.mcp.server import Server  # noqa: PLC0415  the same

    keep_quiet()
    return Server(settings)
