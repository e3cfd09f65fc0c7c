"""Which layers an operator has registered: by entry point or dotted path, in his order.

Only what stands in TURNMILL_LAYERS is ever imported. A session chooses among these names; whoever
writes a row never chooses code.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from turnmill.domain.bounds import LAYER_NAME, MOST_LAYERS
from turnmill.domain.errors import ConfigurationError, InvalidSetting
from turnmill_worker.layers.call import Layer
from turnmill_worker.providers.boundary import name_of

VARIABLE = "TURNMILL_LAYERS"
GROUP = "turnmill.layers"

_ENTRY = re.compile(
    rf"(?P<name>{LAYER_NAME})(?P<opt_in>\?)?(=(?P<module>[\w.]+):(?P<factory>[\w.]+))?"
)
_HINT = "names of entry points, or name=package.module:factory, with commas; name? is opt-in"


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A layer of the operator's, made once in each process."""

    name: str
    layer: Layer
    opt_in: bool = False  #: around the calls of those sessions only whose settings name it


def registered(listed: str) -> tuple[Named, ...]:
    """Return the layers that TURNMILL_LAYERS lists, outermost first.

    Raises InvalidSetting for what is not there or cannot be made, as a worker does at its start.
    """
    entries = [one.strip() for one in listed.split(",") if one.strip()]
    if len(entries) > MOST_LAYERS:
        raise _refused(f"lists more than {MOST_LAYERS} layers")
    layers = tuple(map(_named, entries))
    for one in layers:
        if [other.name for other in layers].count(one.name) > 1:
            raise _refused(f"names {one.name!r} twice")
    return layers


def _named(entry: str) -> Named:
    found = _ENTRY.fullmatch(entry)
    if found is None:
        raise _refused("holds something that names no layer")
    name = found["name"]
    if found["module"] is None:
        point = _entry_point(name)
        make = _loaded(name, point.load)
    else:
        make = _loaded(name, lambda: _attribute(found["module"], found["factory"]))
    layer = _loaded(name, make)
    if not callable(layer):
        raise _refused(f"names {name!r}, which made a {name_of(layer)} and no layer")
    return Named(name=name, layer=layer, opt_in=found["opt_in"] is not None)


def _entry_point(name: str) -> EntryPoint:
    points = {one.value: one for one in entry_points(group=GROUP, name=name)}
    if len(points) > 1:
        raise _refused(f"names {name!r}, which several packages register", hint="uninstall one")
    if not points:
        known = ", ".join(sorted(entry_points(group=GROUP).names)) or "none"
        raise _refused(f"names {name!r}, which no package registers", hint=f"installed: {known}")
    return next(iter(points.values()))


def _attribute(module: str, path: str) -> Any:
    found: Any = import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _loaded(name: str, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except ConfigurationError:
        raise  # it says itself what it lacks
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # The edge to a package of somebody's, which may even want to exit while it is imported.
        raise _refused(
            f"names {name!r}, which cannot be made: {name_of(error)}",
            hint="import the factory and call it without arguments, as the worker does",
        ) from error


def _refused(what: str, *, hint: str = _HINT) -> InvalidSetting:
    return InvalidSetting(f"{VARIABLE} {what}", hint=hint)
