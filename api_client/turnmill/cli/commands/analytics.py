"""`turnmill analytics`: usage and cost."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from turnmill.cli.context import json_option, open_client
from turnmill.show.tables import print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from turnmill.store.nouns.usage import UsageRow

_COLUMNS = (
    "day",
    "provider",
    "model",
    "turns",
    "ok",
    "failed",
    "dead",
    "cancelled",
    "expired",
    "attempts",
    "retries",
    "in",
    "cached",
    "out",
    "USD",
)
#: Left out of a narrow terminal, the last one first.
_SPARE = ("provider", "in", "out", "retries", "dead", "attempts", "cached", "expired", "cancelled")


@click.group("analytics")
def command() -> None:
    """Report usage and cost."""


@command.command("report")
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
    if as_json:
        print_json(asdict(found))
        return
    if not found.lines:
        click.echo(f"no turn ended from {found.first} to {found.last}", err=True)
        return
    print_table(
        _COLUMNS,
        _rows(found.lines),
        title=f"{found.first} to {found.last}, UTC",
        right=_COLUMNS[3:],
        spare=_SPARE,
    )
    if any(line.unpriced_attempts for line in found.lines):
        click.echo("+ some attempts have no known price and are not in it", err=True)


def _rows(lines: Sequence[UsageRow]) -> Iterator[tuple[object, ...]]:
    for line in lines:
        yield (
            line.day or "all",
            line.provider,
            line.model,
            line.turns,
            line.succeeded,
            line.failed,
            line.dead,
            line.cancelled,
            line.expired,
            line.attempts,
            line.retries,
            f"{line.input_tokens:,}",
            f"{line.cached_tokens:,}",
            f"{line.output_tokens:,}",
            f"{line.cost_usd:.4f}{'+' if line.unpriced_attempts else ''}",
        )
