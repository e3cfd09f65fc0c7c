"""Lanes for people and for programs: what waits and runs, and the brakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from turnmill.show.as_typed import as_typed
from turnmill.show.tables import fields, print_json, print_table
from turnmill.show.terminal import say, tell
from turnmill.show.wording import duration

if TYPE_CHECKING:
    from turnmill.store.line.pauses import Pauses
    from turnmill.store.nouns.lanes import LaneLoad

_COLUMNS = (
    "lane",
    "provider",
    "due",
    "running",
    "later",
    "behind",
    "oldest due",
    "brake",
    "held",
    "paused sessions",
)
_NUMBERS = ("due", "running", "later", "behind", "held", "paused sessions")


def print_lanes(
    loads: Sequence[LaneLoad],
    paused: Pauses,
    hints: Mapping[str, int | None] | None,
    *,
    as_json: bool,
) -> None:
    """Print all lanes; `hints` is how many each queue of the broker holds, None without one."""
    if as_json:
        print_json(_document(loads, paused, hints))
        return
    if loads:
        rows = (_row(load, paused) for load in loads)
        print_table(_COLUMNS, rows, right=_NUMBERS, spare=("held", "paused sessions"), cut=True)
    else:
        say("nothing waits and nothing runs")
    _tell_brakes(paused)
    if hints is not None:
        told = ", ".join(f"{lane} {'unknown' if n is None else n}" for lane, n in hints.items())
        say(f"hints in the broker: {told}")


def _row(load: LaneLoad, paused: Pauses) -> tuple[object, ...]:
    oldest = load.oldest_due_at
    return (
        load.lane,
        load.provider,
        load.due,
        load.running,
        load.later,
        load.behind,
        None if oldest is None else duration(datetime.now(UTC) - oldest),
        "paused" if load.lane in paused.lanes or load.provider in paused.providers else "",
        load.held,
        load.paused,
    )


def _document(
    loads: Sequence[LaneLoad], paused: Pauses, hints: Mapping[str, int | None] | None
) -> dict[str, Any]:
    return {
        "lanes": [fields(load, *load.__dataclass_fields__) for load in loads],
        "hints": hints,
        **_paused(paused),
    }


def _paused(paused: Pauses) -> dict[str, Any]:
    return {
        "paused_lanes": sorted(paused.lanes),
        "paused_providers": sorted(paused.providers),
    }


def print_brakes(paused: Pauses, *, as_json: bool) -> None:
    """Print what is paused."""
    if as_json:
        print_json(_paused(paused))
    elif not _tell_brakes(paused):
        tell("nothing is paused")


def _tell_brakes(paused: Pauses) -> bool:
    for lane in sorted(paused.lanes):
        tell(as_typed(f"lane {lane} is paused: turnmill queue resume --lane {lane}"))
    for name in sorted(paused.providers):
        tell(as_typed(f"provider {name} is paused: turnmill queue resume --provider {name}"))
    return bool(paused.lanes or paused.providers)
