"""Which observers an operator has registered. A row chooses among their names, and no code."""

import re
from dataclasses import dataclass

from turnmill.domain.bounds import LAYER_NAME, MOST_OBSERVERS
from turnmill.domain.errors import InvalidInput
from turnmill.domain.hearing import ALWAYS, WantedKinds, asked
from turnmill.store.nouns.events import Share
from turnmill.store.nouns.subscribing import PART
from turnmill_worker.observers.celery_task import CeleryTask
from turnmill_worker.observers.port import Observer
from turnmill_worker.plugins import Kind, Plugin, plugins

OBSERVERS = Kind(
    noun="observer",
    variable="TURNMILL_OBSERVERS",
    group="turnmill.observers",
    most=MOST_OBSERVERS,
    opt_in=True,
)

_TASK = re.compile(
    rf"(?P<name>{LAYER_NAME})(?P<opt_in>\?)?=celery:(?P<task>[\w.-]+)(@(?P<queue>[\w.-]+))?"
)
_PARTS = (1, 2, 4, 8, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """An observer of the operator's, made once in each process that reads events."""

    name: str
    observer: Observer
    opt_in: bool = False  #: only sessions and batches that name it are its business
    asked: WantedKinds = ALWAYS
    part: int = 0
    parts: int = 1

    @property
    def reader(self) -> str:
        """Return whom events are kept for: no other reader can have such a name."""
        part = f"{PART}{self.part + 1}-{self.parts}" if self.parts > 1 else ""
        return f"observer:{self.name}{part}"

    @property
    def subscriber(self) -> str:
        """Return whom events are written for: all of its parts."""
        return f"observer:{self.name}"

    @property
    def share(self) -> Share:
        """Return what it is told of."""
        named = self.name if self.opt_in else None
        kinds = tuple(sorted(self.asked.kinds))
        return Share(kinds=kinds, named=named, part=self.part, parts=self.parts)


def registered(listed: str) -> tuple[Named, ...]:
    """Return the observers that TURNMILL_OBSERVERS lists, each of their parts.

    Raises InvalidSetting for what is not there or cannot be made, as a worker does at its start.
    """
    entries = [one.strip() for one in listed.split(",") if one.strip()]
    tasks = {entry: match for entry in entries if (match := _TASK.fullmatch(entry))}
    others = plugins(",".join(entry for entry in entries if entry not in tasks), OBSERVERS)
    made = [_of_task(one) for one in tasks.values()]
    found = (*others, *made)
    names = [one.name for one in found]
    if len(found) > OBSERVERS.most or len(set(names)) < len(names):
        raise OBSERVERS.refused(f"names one twice, or more than {OBSERVERS.most}")
    return tuple(part for one in found for part in _parts(one))


def _of_task(found: re.Match[str]) -> Plugin:
    task = CeleryTask(found["task"], queue=found["queue"])
    return Plugin(name=found["name"], made=task, opt_in=found["opt_in"] is not None)


def _parts(plugin: Plugin) -> list[Named]:
    parts = getattr(plugin.made, "parts", 1)
    if parts not in _PARTS:
        raise OBSERVERS.refused(f"names {plugin.name!r}, whose `parts` is none of {_PARTS}")
    kinds = getattr(plugin.made, "kinds", None)
    try:
        wanted = ALWAYS if kinds is None else asked(kinds)
    except InvalidInput as error:
        raise OBSERVERS.refused(
            f"names {plugin.name!r}, whose `kinds` cannot be: {error}", hint=error.hint or ""
        ) from None
    return [
        Named(
            name=plugin.name,
            observer=plugin.made,
            opt_in=plugin.opt_in,
            asked=wanted,
            part=part,
            parts=parts,
        )
        for part in range(parts)
    ]
