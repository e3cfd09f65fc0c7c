"""Known: all the tools that an operator's settings name, put together once in each process."""

from collections.abc import Iterable

from turnmill.domain.errors import InvalidSetting
from turnmill.settings import Settings
from turnmill_worker.tools.mcp.configured import BETWEEN, VARIABLE
from turnmill_worker.tools.mcp.servers import Servers, servers_in
from turnmill_worker.tools.offered import Tools
from turnmill_worker.tools.registered import registered


def tools_of(settings: Settings) -> Tools:
    """Return the tools. Raises ConfigurationError for what is not there; connects to nothing."""
    functions = registered(settings.tools)
    servers = servers_in(settings.mcp, profile=settings.profile)
    if servers is not None:
        _refuse_confusion(functions, servers)
    return Tools(functions, servers)


def _refuse_confusion(names: Iterable[str], servers: Servers) -> None:
    """Raise InvalidSetting where a function has a name that a server's tool might have."""
    for name in names:
        if servers.has(name):
            server = name.partition(BETWEEN)[0]
            raise InvalidSetting(
                f"{VARIABLE}: the tool {name!r} of yours is named as one of the server {server!r}",
                hint="name one of the two anew",
            )
