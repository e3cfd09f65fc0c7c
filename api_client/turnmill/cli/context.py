"""What commands share: a client, and output for people or for programs."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TextIO

import click

from turnmill.cli.in_options import in_options
from turnmill.domain.errors import TurnmillError
from turnmill.show.as_typed import as_typed
from turnmill.show.terminal import on_one_line
from turnmill.show.terminal import say as say  # every command says something

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turnmill.settings import Settings
    from turnmill.sync.client import Client

json_option = click.option("--json", "as_json", is_flag=True, help="One line of JSON on stdout.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


@contextmanager
def open_client() -> Iterator[Client]:
    """Yield a client set up by TURNMILL_* variables, or by a running `turnmill up` in the home."""
    from turnmill.running_home import settings_of_home
    from turnmill.sync.client import Client

    with Client(settings=_as_commands(settings_of_home())) as client:
        yield client


def _as_commands(settings: Settings) -> Settings:
    """Have what a command reads and does written down: a command is somebody who looks and acts."""
    from turnmill.settings import Reads

    reads = settings.audit_reads
    return replace(settings, by_hand=True, audit_reads=Reads.ALL if reads is Reads.CLI else reads)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is lost; where nobody can be asked, only `--yes` is an answer."""
    if yes:
        return
    if not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
        raise click.UsageError(f"{question} Nobody can be asked here: say --yes")
    if not click.confirm(on_one_line(question), err=True):
        say("nothing was done")
        raise click.Abort


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def nothing_to_do(is_so: bool, why: str) -> None:
    """Say on stderr that a command has changed nothing, where that is so; it is no failure."""
    if is_so:
        say(f"nothing to do: {why}")


def advise(line: str) -> None:
    """Say what can be typed next, on stderr."""
    say(as_typed(line))


def code_of(done: int, *, wanted: int) -> int:
    """Return the exit code of a command that was to do several things."""
    from turnmill.cli import FAILED, OK, PARTIAL

    if done == wanted:
        return OK
    return PARTIAL if done else FAILED


def show_error(error: TurnmillError) -> None:
    """Print one line on what went wrong, and one on what to do."""
    if log_tail := getattr(error, "log_tail", ""):
        say(log_tail)
    say(f"error: {on_one_line(str(error))} [{error.code}]")
    if error.hint:
        say(f"hint: {on_one_line(as_typed(in_options(error.hint, _typed_command())))}")


def _typed_command() -> click.Command:
    from turnmill.cli import cli

    found: click.Command = cli
    for word in sys.argv[1:]:
        if not isinstance(found, click.Group):
            break
        found = found.get_command(click.Context(found), word) or found
    return found
