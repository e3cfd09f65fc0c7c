"""Catalogue: all tools that a worker with these settings has, for whoever wants to see them."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from turnmill.domain.states import Effects
from turnmill.settings import Settings
from turnmill_worker.tools.known import tools_of
from turnmill_worker.tools.mcp.servers import Servers
from turnmill_worker.tools.runnable import Runnable


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One tool."""

    name: str
    server: str | None  #: the MCP server that has it; None: it is a function of the operator's
    effects: Effects
    timeout: timedelta
    approval: bool
    description: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Tools, and what is known of the servers."""

    tools: tuple[Listed, ...]
    servers: Mapping[str, int] = field(default_factory=dict)  #: how many tools each has
    unreachable: Mapping[str, str] = field(default_factory=dict)  #: and why, in a word


def catalogue(settings: Settings) -> Catalogue:
    """Return all of them; MCP servers are asked. Raises ConfigurationError, as a worker does."""
    known = tools_of(settings)
    functions = tuple(_listed(one, None) for one in known.functions())
    if known.servers is None:
        return Catalogue(tools=functions)
    return asyncio.run(_with_servers(functions, known.servers))


async def _with_servers(functions: tuple[Listed, ...], servers: Servers) -> Catalogue:
    try:
        await servers.look_at_all()
        found = {one.settings.name: one for one in servers.all()}
        theirs = {name: (one.tools or {}).values() for name, one in found.items()}
        reasons = {name: one.reason for name, one in found.items() if one.reason}
        return Catalogue(
            tools=functions + tuple(_listed(one, name) for name in theirs for one in theirs[name]),
            servers={name: len(theirs[name]) for name in found if name not in reasons},
            unreachable=reasons,
        )
    finally:
        await servers.aclose()


def _listed(tool: Runnable, server: str | None) -> Listed:
    return Listed(
        name=tool.name,
        server=server,
        effects=tool.effects,
        timeout=tool.timeout,
        approval=tool.approval,
        description=tool.description,
    )
