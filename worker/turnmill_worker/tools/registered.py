"""Which tools an operator has registered. A session chooses among their names."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from turnmill.domain.errors import ConfigurationError, InvalidSetting
from turnmill.tools import Tool
from turnmill_worker.providers.foreign import name_of

VARIABLE = "TURNMILL_TOOLS"
GROUP = "turnmill.tools"
MOST_TOOLS = 1_000

_ENTRY = re.compile(r"[\w.]+(:[\w.]+)?")
_LISTED = "package.module:function, or package.module for all tools in it, with commas"


def registered(listed: str | Sequence[Tool[..., Any]]) -> dict[str, Tool[..., Any]]:
    """Return the tools that TURNMILL_TOOLS lists, and those of installed packages, by name.

    In one process a list may hold the tools themselves.

    Raises InvalidSetting for what is not there or is no tool, and InvalidTool for one that no model
    could call, as a worker does at its start. Nothing else is ever imported.
    """
    found: dict[str, Tool[..., Any]] = {}
    given = _listed(listed) if isinstance(listed, str) else (("the list", one) for one in listed)
    for where, one in (*given, *_installed()):
        known = found.setdefault(one.name, one)
        if known is not one:
            raise _refused(f"two tools are named {one.name!r}, the second in {where}")
        _ = one.parameters  # made now, so that what is wrong is said at the start
    if len(found) > MOST_TOOLS:
        raise _refused(f"there are more than {MOST_TOOLS} tools")
    return found


def _listed(listed: str) -> Iterator[tuple[str, Tool[..., Any]]]:
    for entry in filter(None, (one.strip() for one in listed.split(","))):
        if not _ENTRY.fullmatch(entry):
            raise _refused("holds something that names no tool")
        yield from _tools_in(entry, _loaded(entry, partial(_named, *entry.partition(":")[::2])))


def _installed() -> Iterator[tuple[str, Tool[..., Any]]]:
    for point in sorted(entry_points(group=GROUP), key=lambda one: one.name):
        where = f"the entry point {point.name}"
        yield from _tools_in(where, _loaded(where, point.load))


def _named(module: str, path: str) -> Any:
    found: Any = import_module(module)
    for name in filter(None, path.split(".")):
        found = getattr(found, name)
    return found


def _tools_in(where: str, found: Any) -> Iterable[tuple[str, Tool[..., Any]]]:
    if isinstance(found, Tool):
        return [(where, found)]
    inside = list(vars(found).values()) if isinstance(found, ModuleType) else []
    tools = {id(one): (where, one) for one in inside if isinstance(one, Tool)}
    if not tools:
        raise _refused(
            f"names {where}, in which no tool is: it is a {name_of(found)}",
            hint="put @turnmill.tool above the function",
        )
    return list(tools.values())


def _loaded(where: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except ConfigurationError:
        raise  # it says itself what is wrong
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # The edge to a module of somebody's, which may even want to exit while it is imported.
        raise _refused(
            f"names {where}, which cannot be imported: {name_of(error)}",
            hint="import it as the worker does, from the same directory",
        ) from error


def _refused(what: str, *, hint: str = "") -> InvalidSetting:
    return InvalidSetting(f"{VARIABLE}: {what}", hint=hint or _LISTED)
