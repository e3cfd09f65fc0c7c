"""`turnmill analytics alerts`: what is beyond its bounds."""

from __future__ import annotations

import click

from turnmill.cli.context import advise, open_client, say
from turnmill.cli.listing import MOST, listing_options


@click.command("alerts")
@click.option("--since", metavar="WHEN", help="Those too that were open since: 7d, 2026-11-01.")
@click.option("--limit", type=click.IntRange(1, MOST), default=100, show_default=True)
@listing_options
def alerts(*, since: str | None, limit: int, as_json: bool) -> int:
    """Show the alerts that are open. Exits with 1 where one is.

    Beat has a worker look every five minutes; TURNMILL_ALERTS moves the bounds.
    """
    from turnmill.cli import FAILED, OK
    from turnmill.show.listing import print_listing
    from turnmill.show.overview_view import ALERTS

    with open_client() as client:
        found = client.analytics.alerts(since=since, limit=limit)
    print_listing(found, ALERTS, as_json=as_json)
    if not found:
        advise("no alert is open" if since is None else "no alert was open since then")
    elif len(found) == limit < MOST:
        say(f"maybe more: --limit {MOST}")
    return FAILED if any(one.closed_at is None for one in found) else OK
