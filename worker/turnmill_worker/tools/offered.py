"""Which tools the model of a session is offered, and who runs each of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from turnmill.domain.errors import Rejected
from turnmill.domain.states import Effects, ToolCallState
from turnmill.tools import EXPIRES
from turnmill_worker.providers.foreign import is_a
from turnmill_worker.providers.port import ToolOffer
from turnmill_worker.tools.mcp.servers import Servers
from turnmill_worker.tools.runnable import Runnable


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """A tool that the model of a session may call."""

    offer: ToolOffer
    tool: Runnable | None  #: None: somebody outside gives the outputs
    begins: ToolCallState  #: where a call of it stands at first
    effects: Effects
    expires: timedelta | None  #: so long somebody outside has time


class Tools:
    """The tools that are registered in this process, and those of its MCP servers."""

    def __init__(
        self,
        registered: Mapping[str, Runnable] = MappingProxyType({}),
        servers: Servers | None = None,
    ) -> None:
        self._registered = registered
        self.servers = servers

    def functions(self) -> Iterable[Runnable]:
        """Return those that are functions of the operator's."""
        return self._registered.values()

    async def learn(self, chosen: object) -> None:
        """Ask the servers whose tools a session has chosen, unless that was done a moment ago."""
        if self.servers is not None and isinstance(chosen, list):
            await self.servers.look(filter(None, map(_name_in, chosen)))

    async def aclose(self) -> None:
        """Hang up at all servers."""
        if self.servers is not None:
            await self.servers.aclose()

    def offered(self, chosen: object) -> dict[str, Offered]:
        """Return what a session offers whose setting `tools` is this, or None, by name.

        Raises Rejected for names that are not registered here: nothing is ever imported for them.
        """
        if not chosen:
            return {}
        if not isinstance(chosen, list):
            raise _refused("it must be a list of names, and of tools of the caller's own")
        return {one.offer.name: one for one in self._each(chosen)}

    def _each(self, chosen: Iterable[object]) -> Iterable[Offered]:
        for one in chosen:
            if isinstance(one, str):
                yield self._ours(one, {})
            elif isinstance(one, Mapping) and isinstance(one.get("name"), str):
                yield _theirs(one) if "parameters" in one else self._ours(one["name"], one)
            else:
                raise _refused("each is a name, or an object with one")

    def _ours(self, name: str, about: Mapping[str, Any]) -> Offered:
        tool = self._registered.get(name)
        if tool is None and self.servers is not None:
            tool = self.servers.find(name)
        if tool is None:
            raise Rejected(
                "unknown_tool",
                detail=f"no tool is named {name[:64]!r} in this worker",
                hint="name it in TURNMILL_TOOLS or TURNMILL_MCP of every worker, or update the"
                " session's settings, then `turnmill turns retry`",
            )
        agreed = tool.approval or about.get("approval") is True
        return Offered(
            offer=ToolOffer(
                name=tool.name, description=tool.description, parameters=tool.parameters
            ),
            tool=tool,
            begins=ToolCallState.APPROVAL if agreed else ToolCallState.PENDING,
            effects=tool.effects,
            expires=_expires(about, tool.expires) if agreed else None,
        )


def _name_in(one: object) -> str:
    name = one.get("name") if isinstance(one, Mapping) else one
    return name if isinstance(name, str) else ""


def _theirs(about: Mapping[str, Any]) -> Offered:
    description, parameters = about.get("description", ""), about["parameters"]
    if not is_a(description, str) or not is_a(parameters, dict):
        raise _refused("a tool has a description, and a JSON schema of its parameters")
    return Offered(
        offer=ToolOffer(name=about["name"], description=description, parameters=parameters),
        tool=None,
        begins=ToolCallState.CALLER,
        # Whatever the caller does with it, it is never done by us, and so never a second time.
        effects=Effects.AT_MOST_ONCE,
        expires=_expires(about, EXPIRES),
    )


def _expires(about: Mapping[str, Any], default: timedelta) -> timedelta:
    seconds = about.get("expires")
    if seconds is None:
        return default
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds <= 0:
        raise _refused("a tool expires after a number of seconds")
    return timedelta(seconds=min(seconds, 366 * 86_400))


def _refused(why: str) -> Rejected:
    return Rejected(
        "setting_refused",
        detail=f"setting 'tools': {why}",
        hint="`turnmill sessions show` shows a session's settings; update or leave out this one",
    )
