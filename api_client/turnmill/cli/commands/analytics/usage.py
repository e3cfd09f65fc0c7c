"""`turnmill analytics report`: usage and cost."""

from __future__ import annotations

import click

from turnmill.cli.context import json_option, open_client
from turnmill.show.usage_view import print_report


@click.command("report")
@click.option("--days", type=click.IntRange(1, 3660), default=7, show_default=True)
@click.option(
    "--by",
    type=click.Choice(["day", "model"]),
    default="day",
    show_default=True,
    help="A line for each day, or for all days together.",
)
@click.option(
    "--refresh/--no-refresh",
    default=True,
    show_default=True,
    help="Count today's turns anew, or take what beat has counted.",
)
@json_option
def report(*, days: int, by: str, refresh: bool, as_json: bool) -> None:
    """Show what the turns that ended in the last days came to (UTC days)."""
    with open_client() as client:
        found = client.analytics.report(days=days, by_day=by == "day", refresh=refresh)
    print_report(found, as_json=as_json)
