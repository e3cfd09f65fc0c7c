"""`turnmill analytics report`: usage and cost, as a table or as a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from turnmill.cli.beside import refuse_beside
from turnmill.cli.context import json_option, open_client
from turnmill.show.usage_view import print_report

if TYPE_CHECKING:
    from turnmill.sync.client import Client

_FILE = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """Of when a report is, and into which files it goes."""

    since: str
    until: str | None
    zone: str
    thorough: bool
    html: Path | None
    csv: Path | None
    parquet: Path | None


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
@click.option("--since", metavar="WHEN", help="A whole report: 7d, 24h, 4w, or 2026-11-01.")
@click.option("--until", metavar="WHEN", help="Its end, a day or a moment; now unless given.")
@click.option("--zone", default="UTC", show_default=True, metavar="NAME", help="Whose days.")
@click.option("--thorough", is_flag=True, help="Look at each turn, of more than 30,000 too.")
@click.option("--html", type=_FILE, help="Write the report as a page that needs nothing else.")
@click.option("--csv", type=_FILE, help="Write the lines that it is added up from.")
@click.option("--parquet", type=_FILE, help="The same, with types.")
@json_option
def report(
    *,
    days: int,
    by: str,
    refresh: bool,
    since: str | None,
    until: str | None,
    zone: str,
    thorough: bool,
    html: Path | None,
    csv: Path | None,
    parquet: Path | None,
    as_json: bool,
) -> None:
    """Show what the turns that ended in the last days came to (UTC days).

    With --since, --until, --zone, --thorough, or a file to write, a whole report: compared with the
    time before, and with what stands out.
    """
    whole = bool(since or until or html or csv or parquet or thorough or zone != "UTC")
    if whole:
        refuse_beside("what makes a whole report", "by", "refresh", why="it has all of them")
    if since:
        refuse_beside("--since", "days", why="both say when it begins")
    with open_client() as client:
        if whole:
            asked = _Window(
                since=since or f"{days}d",
                until=until,
                zone=zone,
                thorough=thorough,
                html=html,
                csv=csv,
                parquet=parquet,
            )
            _whole(client, asked, as_json=as_json)
            return
        found = client.analytics.report(days=days, by_day=by == "day", refresh=refresh)
    print_report(found, as_json=as_json)


def _whole(client: Client, asked: _Window, *, as_json: bool) -> None:
    """Write the files that are asked for; what is read at all is shown, too."""
    from turnmill.show.overview_view import print_overview
    from turnmill.show.report.line_files import write_csv, write_parquet, write_text
    from turnmill.show.report.page import report_page

    data = client.analytics.overview(
        since=asked.since, until=asked.until, zone=asked.zone, thorough=asked.thorough
    )
    if asked.html is not None:
        write_text(asked.html, report_page(data))
    if asked.csv is not None or asked.parquet is not None:
        lines = client.analytics.lines(since=data.since, until=data.until, zone=asked.zone)
        if asked.csv is not None:
            write_csv(asked.csv, lines)
        if asked.parquet is not None:
            write_parquet(asked.parquet, lines)
    if as_json or not (asked.html or asked.csv or asked.parquet):
        print_overview(data, as_json=as_json)
