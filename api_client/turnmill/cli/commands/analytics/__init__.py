"""`turnmill analytics`: what turns cost, and what follows from it."""

import click

from turnmill.cli.commands.analytics.bills import reconcile, reprice
from turnmill.cli.commands.analytics.usage import report


@click.group("analytics")
def command() -> None:
    """Report usage and cost, and compare them with vendors' bills."""


for _each in (report, reconcile, reprice):
    command.add_command(_each)
