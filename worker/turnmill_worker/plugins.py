"""Code of others, by the names under which an operator lists it: nothing else is ever imported.

A name is that of an entry point, or stands before the dotted path of a factory. Whoever writes a
row chooses among such names at most, and never code.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from turnmill.domain.bounds import LAYER_NAME
from turnmill.domain.errors import ConfigurationError, InvalidSetting
from turnmill_worker.providers.foreign import name_of

_ENTRY = re.compile(
    rf"(?P<name>{LAYER_NAME})(?P<opt_in>\?)?(=(?P<module>[\w.]+):(?P<factory>[\w.]+))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What can be listed in one variable."""

    noun: str  #: layer, say
    variable: str
    group: str  #: of entry points
    most: int
    opt_in: bool = False  #: whether `name?` is understood

    def refused(self, what: str, *, hint: str = "") -> InvalidSetting:
        """Return the error of a list that cannot be."""
        listed = "names of entry points, or name=package.module:factory, with commas"
        return InvalidSetting(
            f"{self.variable} {what}",
            hint=hint or listed + ("; name? is opt-in" if self.opt_in else ""),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """What a factory made, once in each process."""

    name: str
    made: Any = field(repr=False)
    opt_in: bool


def plugins(listed: str, kind: Kind) -> tuple[Plugin, ...]:
    """Return what is listed, in that order.

    Raises InvalidSetting for what is not there or cannot be made, as a worker does at its start.
    """
    entries = [one.strip() for one in listed.split(",") if one.strip()]
    if len(entries) > kind.most:
        raise kind.refused(f"lists more than {kind.most} {kind.noun}s")
    found = tuple(_plugin(entry, kind) for entry in entries)
    for one in found:
        if [other.name for other in found].count(one.name) > 1:
            raise kind.refused(f"names {one.name!r} twice")
    return found


def _plugin(entry: str, kind: Kind) -> Plugin:
    found = _ENTRY.fullmatch(entry)
    if found is None or (found["opt_in"] and not kind.opt_in):
        raise kind.refused(f"holds something that names no {kind.noun}")
    name = found["name"]
    if found["module"] is None:
        make = _loaded(name, _entry_point(name, kind).load, kind)
    else:
        make = _loaded(name, lambda: _attribute(found["module"], found["factory"]), kind)
    made = _loaded(name, make, kind)
    if not callable(made):
        raise kind.refused(f"names {name!r}, which made a {name_of(made)} and no {kind.noun}")
    return Plugin(name=name, made=made, opt_in=found["opt_in"] is not None)


def _entry_point(name: str, kind: Kind) -> EntryPoint:
    points = {one.value: one for one in entry_points(group=kind.group, name=name)}
    if len(points) > 1:
        raise kind.refused(f"names {name!r}, which several packages register", hint="uninstall one")
    if not points:
        known = ", ".join(sorted(entry_points(group=kind.group).names)) or "none"
        raise kind.refused(
            f"names {name!r}, which no package registers", hint=f"installed: {known}"
        )
    return next(iter(points.values()))


def _attribute(module: str, path: str) -> Any:
    found: Any = import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _loaded(name: str, make: Callable[[], Any], kind: Kind) -> Any:
    try:
        return make()
    except ConfigurationError:
        raise  # it says itself what it lacks
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # The edge to a package of somebody's, which may even want to exit while it is imported.
        raise kind.refused(
            f"names {name!r}, which cannot be made: {name_of(error)}",
            hint="import the factory and call it without arguments, as the worker does",
        ) from error
