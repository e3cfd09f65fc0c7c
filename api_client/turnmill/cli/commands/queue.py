"""`turnmill queue`: what waits and runs, and the brakes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from turnmill.cli.context import json_option, open_client, say
from turnmill.domain.states import Lane
from turnmill.show.tables import fields, print_json, print_table
from turnmill.show.wording import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from turnmill.store.line.pauses import Pauses
    from turnmill.store.nouns.lanes import LaneLoad
    from turnmill.sync.client import Client

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
_LANES = [lane.value for lane in Lane]


def target_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --lane and --provider."""
    function = click.option("--provider", metavar="NAME", help="Of all lanes.")(function)
    return click.option("--lane", type=click.Choice(_LANES), help="Of all providers.")(function)


@click.group("queue")
def command() -> None:
    """Look at lanes, pause and resume them.

    A lane: interactive (somebody waits), bulk (nobody does), quarantine (turns that were lost
    with their worker run apart).
    """


@command.command("ls")
@json_option
def ls(*, as_json: bool) -> None:
    """Show what waits and runs, by lane and provider; and how many hints the broker holds.

    due, later: sessions whose next turn may run now, or at a later moment. behind: turns that wait
    for an earlier one of their session. Hints only wake workers; the turns stand in the database.
    """
    with open_client() as client:
        loads, paused = client.lanes.loads(), client.lanes.paused()
        hints = _hints(client)
    if as_json:
        print_json(_document(loads, paused, hints))
        return
    if loads:
        rows = (_row(load, paused) for load in loads)
        print_table(_COLUMNS, rows, right=_NUMBERS, spare=("held", "paused sessions"))
    else:
        say("nothing waits and nothing runs")
    _tell_brakes(paused)
    if hints is not None:
        say("hints in the broker: " + ", ".join(f"{lane} {n}" for lane, n in hints.items()))


@command.command("pause")
@target_options
@click.option("--force", is_flag=True, help="Also a provider that nobody has asked for so far.")
@json_option
def pause(*, lane: str | None, provider: str | None, force: bool, as_json: bool) -> None:
    """Start no turn of a lane or provider; messages are still accepted, and what runs goes on."""
    with open_client() as client:
        client.lanes.pause(lane=lane, provider=provider, force=force)
        _tell(client.lanes.paused(), as_json=as_json)


@command.command("resume")
@target_options
@json_option
def resume(*, lane: str | None, provider: str | None, as_json: bool) -> None:
    """Let its turns run again."""
    with open_client() as client:
        client.lanes.resume(lane=lane, provider=provider)
        _tell(client.lanes.paused(), as_json=as_json)


def _hints(client: Client) -> dict[str, int | None] | None:
    """Return the depth of each lane's queue, None where the broker is down; None without one."""
    from turnmill.broker.publisher import Publisher

    settings = client.settings
    if not settings.broker_url:
        return None
    publisher = Publisher(settings.broker_url, hints_max=settings.hints_max)
    try:
        return {lane.value: publisher.depth(lane) for lane in Lane}
    finally:
        publisher.close()


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
    loads: Sequence[LaneLoad], paused: Pauses, hints: dict[str, int | None] | None
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


def _tell(paused: Pauses, *, as_json: bool) -> None:
    if as_json:
        print_json(_paused(paused))
    elif not _tell_brakes(paused):
        click.echo("nothing is paused")


def _tell_brakes(paused: Pauses) -> bool:
    for lane in sorted(paused.lanes):
        click.echo(f"lane {lane} is paused: turnmill queue resume --lane {lane}")
    for name in sorted(paused.providers):
        click.echo(f"provider {name} is paused: turnmill queue resume --provider {name}")
    return bool(paused.lanes or paused.providers)
