"""`turnmill schedules`: what is said in sessions again and again, or once later."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from zoneinfo import ZoneInfo

import click

from turnmill.cli.context import confirm, json_option, nothing_to_do, open_client, yes_option
from turnmill.cli.groups import CommandGroup
from turnmill.cli.listing import page_options, print_page
from turnmill.cli.short_ids import schedule_of, session_of
from turnmill.domain.budgets import time_zone
from turnmill.domain.crons import Missed
from turnmill.domain.errors import InvalidInput
from turnmill.show.schedule_view import SCHEDULES, print_removed, print_schedule

_MISSED = [one.value for one in Missed]
_MOMENT = "2026-12-24T18:00 (by --timezone, unless it says +01:00)"

schedule_argument = click.argument("schedule", metavar="SCHEDULE")


@click.group("schedules", cls=CommandGroup)
def command() -> None:
    """Send a message again and again, or once later: each run is an ordinary turn."""


@command.command("ls")
@click.option("--session", metavar="KEY|ID", help="Of this one only.")
@page_options("schedule")
def ls(*, session: str | None, limit: int, after: str | None, as_json: bool) -> None:
    """List schedules, newest first, and when each runs next."""
    with open_client() as client:
        of = None if session is None else session_of(client, session)
        print_page(
            partial(client.schedules.list, session=of),
            SCHEDULES,
            find=partial(schedule_of, client),
            after=after,
            limit=limit,
            as_json=as_json,
            nothing='none: turnmill schedules create SESSION TEXT --cron "30 9 * * mon-fri"',
        )


@command.command("create")
@click.argument("session")
@click.argument("text")
@click.option("--cron", metavar="FIELDS", help='Such as "30 9 * * mon-fri", or @daily.')
@click.option("--at", metavar="MOMENT", help=f"Once: {_MOMENT}")
@click.option(
    "--timezone",
    default="UTC",
    show_default=True,
    metavar="NAME",
    help="Of the cron, and of moments.",
)
@click.option("--until", metavar="MOMENT", help="Not later than this.")
@click.option(
    "--missed",
    type=click.Choice(_MISSED),
    default=Missed.ONCE.value,
    show_default=True,
    help="What becomes of runs that nobody made in time.",
)
@click.option("--key", metavar="KEY", help="Creating again finds the same schedule.")
@click.option(
    "--lane", type=click.Choice(["interactive", "bulk"]), default="interactive", show_default=True
)
@json_option
def create(
    *,
    session: str,
    text: str,
    cron: str | None,
    at: str | None,
    timezone: str,
    until: str | None,
    missed: str,
    key: str | None,
    lane: str,
    as_json: bool,
) -> None:
    """Have TEXT sent in SESSION whenever the cron says, or once at a moment."""
    with open_client() as client:
        made = client.schedules.create(
            session_of(client, session),
            text,
            cron=cron,
            at=_moment(at, "--at", timezone),
            timezone=timezone,
            until=_moment(until, "--until", timezone),
            missed=missed,
            key=key,
            lane=lane,
        )
    print_schedule(made, text=False, as_json=as_json)


@command.command("show")
@schedule_argument
@click.option("--text", is_flag=True, help="With what it says.")
@json_option
def show(*, schedule: str, text: bool, as_json: bool) -> None:
    """Show a schedule, and its next five runs by the clocks of its time zone."""
    with open_client() as client:
        print_schedule(schedule_of(client, schedule), text=text, as_json=as_json)


@command.command("pause")
@schedule_argument
@json_option
def pause(*, schedule: str, as_json: bool) -> None:
    """Make no runs until it is resumed."""
    with open_client() as client:
        before = schedule_of(client, schedule)
        found = client.schedules.pause(before)
    nothing_to_do(found.paused is before.paused, "it is paused already")
    print_schedule(found, text=False, as_json=as_json)


@command.command("resume")
@schedule_argument
@json_option
def resume(*, schedule: str, as_json: bool) -> None:
    """Make runs again, from now on."""
    with open_client() as client:
        before = schedule_of(client, schedule)
        found = client.schedules.resume(before)
    nothing_to_do(found.paused is before.paused, "it is not paused")
    print_schedule(found, text=False, as_json=as_json)


@command.command("delete")
@schedule_argument
@yes_option
@json_option
def delete(*, schedule: str, yes: bool, as_json: bool) -> None:
    """Make no more runs; turns that were made stay."""
    with open_client() as client:
        found = schedule_of(client, schedule)
        confirm("Make no more runs of this schedule?", yes=yes)
        client.schedules.delete(found)
    print_removed(found, as_json=as_json)


def _moment(typed: str | None, option: str, timezone: str) -> datetime | None:
    if typed is None:
        return None
    try:
        found = datetime.fromisoformat(typed)
    except ValueError:
        raise InvalidInput(f"{option} is no moment", hint=_MOMENT) from None
    return (
        found if found.tzinfo is not None else found.replace(tzinfo=ZoneInfo(time_zone(timezone)))
    )
