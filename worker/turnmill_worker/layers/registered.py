"""Which layers an operator has registered, in his order. A session chooses among their names."""

from dataclasses import dataclass

from turnmill.domain.bounds import MOST_LAYERS
from turnmill_worker.layers.call import Layer
from turnmill_worker.plugins import Kind, plugins

LAYERS = Kind(
    noun="layer",
    variable="TURNMILL_LAYERS",
    group="turnmill.layers",
    most=MOST_LAYERS,
    opt_in=True,
)


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
    return tuple(
        Named(name=one.name, layer=one.made, opt_in=one.opt_in) for one in plugins(listed, LAYERS)
    )
