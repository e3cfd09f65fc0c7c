"""`turnmill analytics reconcile` and `reprice`: vendors' bills, and prices that have changed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from turnmill.cli.context import json_option, open_client
from turnmill.show.bill_view import print_reconciliation, print_repricing

if TYPE_CHECKING:
    from turnmill.verbs.repricing import PriceAgain


@click.command("reconcile")
@click.argument("bill", type=click.Path(path_type=Path))
@click.option("--provider", help="Whose bill it is, where the file does not show it.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    help="Percent of a line's cost that are no difference.",
)
@json_option
def reconcile(*, bill: Path, provider: str | None, tolerance: float, as_json: bool) -> int:
    """Compare BILL, a vendor's CSV of costs or usage, with what was written down here.

    By UTC day, and by model and tier as far as the file tells these apart. Exits with 1 where a
    line differs.
    """
    with open_client() as client:
        found = client.analytics.reconcile(bill, provider=provider, tolerance=tolerance / 100)
    print_reconciliation(found, as_json=as_json)
    return 0 if found.agrees else 1


@click.command("reprice")
@click.option(
    "--since",
    type=click.DateTime(formats=["%Y-%m-%d"]),
    required=True,
    help="The first day, in UTC.",
)
@click.option(
    "--until", type=click.DateTime(formats=["%Y-%m-%d"]), help="The last day; today unless given."
)
@click.option("--provider", help="Calls of this provider only.")
@click.option("--dry-run", is_flag=True, help="Say what would change, and write nothing.")
@json_option
def reprice(
    *,
    since: datetime,
    until: datetime | None,
    provider: str | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Price calls anew, by TURNMILL_PRICES and the price list that is installed here.

    Exits with 5 where calls could not be reached.
    """
    from turnmill.cli import OK, PARTIAL

    last = datetime.now(UTC).date() if until is None else until.date()
    price = _price()
    with open_client() as client:
        found = client.analytics.reprice(
            price, first=since.date(), last=last, provider=provider, dry_run=dry_run
        )
    print_repricing(found, as_json=as_json)
    return PARTIAL if found.unknown or found.uncounted or found.busy else OK


def _price() -> PriceAgain:
    """Return what prices a call by the lists that workers on this machine would go by."""
    from turnmill.cli.celery_program import require_worker_half
    from turnmill.running_home import settings_of_home

    require_worker_half("genai_prices", "pydantic_core")
    from turnmill_worker.providers.repricing import price_again

    return price_again(settings_of_home().prices)
