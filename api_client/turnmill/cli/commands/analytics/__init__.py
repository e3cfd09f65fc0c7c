"""`turnmill analytics`: what turns cost, and what follows from it."""

import click

from turnmill.cli.commands.analytics.bills import reconcile, reprice
from turnmill.cli.commands.analytics.findings import behaviours, suggest, topics
from turnmill.cli.commands.analytics.usage import report


@click.group("analytics")
def command() -> None:
    """Report usage, cost and topics, say what to change, and compare with vendors' bills."""


for _each in (report, topics, behaviours, suggest, reconcile, reprice):
    command.add_command(_each)
