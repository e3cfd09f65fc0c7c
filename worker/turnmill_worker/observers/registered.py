"""Which observers an operator has registered. A row chooses none."""

from dataclasses import dataclass

from turnmill.domain.bounds import MOST_OBSERVERS
from turnmill_worker.observers.port import Observer
from turnmill_worker.plugins import Kind, plugins

OBSERVERS = Kind(
    noun="observer",
    variable="TURNMILL_OBSERVERS",
    group="turnmill.observers",
    most=MOST_OBSERVERS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """An observer of the operator's, made once in each process that reads events."""

    name: str
    observer: Observer

    @property
    def reader(self) -> str:
        """Return whom events are kept for: no other reader can have such a name."""
        return f"observer:{self.name}"


def registered(listed: str) -> tuple[Named, ...]:
    """Return the observers that TURNMILL_OBSERVERS lists.

    Raises InvalidSetting for what is not there or cannot be made, as a worker does at its start.
    """
    return tuple(Named(name=one.name, observer=one.made) for one in plugins(listed, OBSERVERS))
