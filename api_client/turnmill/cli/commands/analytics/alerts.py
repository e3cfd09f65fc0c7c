"""`turnmill analytics alerts`: what is beyond its bounds."""

from __future__ import annotations

import click

from turnmill.cli.context import json_option, open_client


@click.command("alerts")
@click.option("--since", metavar="WHEN", help="Those too that were open since: 7d, 2026-11-01.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@json_option
def alerts(*, since: str | None, limit: int, as_json: bool) -> int:
    """Show the alerts that are open. Exits with 1 where one is.

    Beat has a worker look every five minutes; TURNMILL_ALERTS moves the bounds.
    """
    from turnmill.cli import FAILED, OK
    from turnmill.show.overview_view import print_alerts

    with open_client() as client:
        found = client.analytics.alerts(since=since, limit=limit)
    print_alerts(found, as_json=as_json)
    return FAILED if any(one.closed_at is None for one in found) else OK
