"""`turnmill queue`: what waits and runs, and the brakes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from turnmill.cli.beside import refuse_beside
from turnmill.cli.context import json_option, nothing_to_do, open_client
from turnmill.cli.groups import CommandGroup
from turnmill.cli.listing import listing_options
from turnmill.domain.states import Lane
from turnmill.show.lanes_view import print_brakes, print_lanes

if TYPE_CHECKING:
    from collections.abc import Callable

    from turnmill.sync.client import Client

_LANES = [lane.value for lane in Lane]


def target_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --lane and --provider."""
    function = click.option("--provider", metavar="NAME", help="Of all lanes.")(function)
    return click.option("--lane", type=click.Choice(_LANES), help="Of all providers.")(function)


@click.group("queue", cls=CommandGroup)
def command() -> None:
    """Look at lanes, pause and resume them.

    A lane: interactive (somebody waits), bulk (nobody does), quarantine (turns that were lost
    with their worker run apart).
    """


@command.command("ls")
@listing_options
def ls(*, as_json: bool) -> None:
    """Show what waits and runs, by lane and provider; and how many hints the broker holds.

    due, later: sessions whose next turn may run now, or at a later moment. behind: turns that wait
    for an earlier one of their session. Hints only wake workers; the turns stand in the database.
    """
    with open_client() as client:
        loads, paused = client.lanes.loads(), client.lanes.paused()
        hints = _hints(client)
    print_lanes(loads, paused, hints, as_json=as_json)


@command.command("pause")
@target_options
@click.option("--force", is_flag=True, help="Also a provider that nobody has asked for so far.")
@json_option
def pause(*, lane: str | None, provider: str | None, force: bool, as_json: bool) -> None:
    """Start no turn of a lane or provider; messages are still accepted, and what runs goes on."""
    if provider is None:
        refuse_beside("--lane alone", "force", why="it is of a --provider")
    with open_client() as client:
        done = client.lanes.pause(lane=lane, provider=provider, force=force)
        nothing_to_do(not done, "it is paused already")
        print_brakes(client.lanes.paused(), as_json=as_json)


@command.command("resume")
@target_options
@json_option
def resume(*, lane: str | None, provider: str | None, as_json: bool) -> None:
    """Let its turns run again."""
    with open_client() as client:
        done = client.lanes.resume(lane=lane, provider=provider)
        nothing_to_do(not done, "it is not paused")
        print_brakes(client.lanes.paused(), as_json=as_json)


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
