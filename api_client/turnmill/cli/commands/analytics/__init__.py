"""`turnmill analytics`: what turns cost, and what follows from it."""

import click

from turnmill.cli.commands.analytics.alerts import alerts
from turnmill.cli.commands.analytics.bills import reconcile, reprice
from turnmill.cli.commands.analytics.conversations import session, user
from turnmill.cli.commands.analytics.feedback import feedback
from turnmill.cli.commands.analytics.findings import behaviours, suggest, topics
from turnmill.cli.commands.analytics.usage import report
from turnmill.cli.groups import CommandGroup


@click.group("analytics", cls=CommandGroup)
def command() -> None:
    """Report usage, cost, topics and what was felt, see to alerts, say what to change."""


for _each in (
    *(report, alerts, session, user, feedback, topics, behaviours, suggest),
    *(reconcile, reprice),
):
    command.add_command(_each)
