"""The command line: `turnmill`. Each command is a module of its own, loaded when it is called."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module

import click

from turnmill.domain.errors import NotFound, TurnmillError, TurnTimeout
from turnmill.show.terminal import on_one_line, say
from turnmill.variables import slips

#: Command → what it does. The module has the same name and holds a click command `command`.
COMMANDS = {
    "up": "Run the whole system on this machine.",
    "home": "Show and remove what `up` keeps on this machine.",
    "demo": "Show it at work on a throw-away home.",
    "worker": "Run turns (Celery's worker on an asyncio pool).",
    "beat": "Run the schedule (Celery's beat).",
    "flower": "Run Flower, behind a password.",
    "health": "Tell whether a worker or a beat lives, and works.",
    "roles": "Make the database's roles.",
    "migrate": "Bring the database to this version.",
    "doctor": "Find out what is wrong, and how to mend it.",
    "send": "Send a message.",
    "chat": "Talk in a terminal.",
    "sessions": "List, show, archive and delete sessions.",
    "participants": "Show and change who takes part in a session.",
    "follow": "Show what happens in a session to one who takes part.",
    "templates": "Show, compare and sync set-ups of sessions.",
    "schedules": "Send messages again and again, or later.",
    "turns": "List, show, retry and cancel turns.",
    "users": "Export, erase and hold users.",
    "files": "List, show, get and delete files of users.",
    "tools": "List, approve, reject and answer calls of tools.",
    "batch": "Run many turns from a file.",
    "env": "Print where the system is, for other programs.",
    "events": "Show what happened to turns, and who reads it.",
    "observers": "Show observers of events, and go on with one that is parked.",
    "webhooks": "Have addresses told of events.",
    "queue": "Look at lanes, pause and resume them.",
    "limits": "Limit how much providers are asked.",
    "accounts": "Show what nobody calls at the moment, and open it.",
    "upkeep": "List the jobs of the schedule, and run one.",
    "analytics": "Report usage and cost.",
    "trial": "Ask stored turns again of another model.",
    "trials": "List, show and cancel such trials.",
    "experiments": "Give a share of new sessions another set-up.",
    "budget": "Bound what turns cost.",
    "encryption": "Look after the keys of what is encrypted.",
    "audit": "Show who did what to whose data.",
}

OK, FAILED, USAGE, NOT_FOUND, STILL_RUNNING, PARTIAL = range(6)
INTERRUPTED = 130


class LazyGroup(click.Group):
    """Knows all commands by name, and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"turnmill.cli.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command("turnmill", cls=LazyGroup)
@click.version_option(package_name="turnmill")
def cli() -> None:
    """LLM conversation turns, queued in Postgres, run by Celery workers, every attempt kept."""
    for line in slips(os.environ):
        say(f"warning: {on_one_line(line)}")


def main() -> None:
    """Run the command line. An error is one line, a hint, and an exit code."""
    from turnmill.cli import streams

    sys.exit(streams.run(_run, failed=FAILED, interrupted=INTERRUPTED))


def _run() -> int:
    try:
        code = cli.main(prog_name="turnmill", standalone_mode=False)
    except click.exceptions.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        with suppress(OSError):  # stderr may be what fails
            error.show()
        return error.exit_code
    except TurnmillError as error:
        from turnmill.cli.context import show_error

        with suppress(OSError):
            show_error(error)
        return _exit_code(error)
    return code if isinstance(code, int) else OK


def _exit_code(error: TurnmillError) -> int:
    if isinstance(error, NotFound):
        return NOT_FOUND
    return STILL_RUNNING if isinstance(error, TurnTimeout) else FAILED
