"""`turnmill trials`: what became of turns that were asked again."""

from __future__ import annotations

from functools import partial

import click

from turnmill.cli import OK, STILL_RUNNING
from turnmill.cli.context import confirm, json_option, nothing_to_do, open_client, yes_option
from turnmill.cli.groups import CommandGroup
from turnmill.cli.listing import page_options, print_page
from turnmill.cli.short_ids import trial_of
from turnmill.show.tables import print_json
from turnmill.show.trial_view import TRIALS, print_trial, result_document

trial_argument = click.argument("trial", metavar="TRIAL")


@click.group("trials", cls=CommandGroup)
def command() -> None:
    """Trials, as `turnmill trial` starts them: list, show, compare, cancel.

    TRIAL is a name, an id, or the beginning of an id.
    """


@command.command("ls")
@page_options("trial")
def ls(*, limit: int, after: str | None, as_json: bool) -> None:
    """List trials, newest first."""
    with open_client() as client:
        print_page(
            client.trials.list,
            TRIALS,
            find=partial(trial_of, client),
            after=after,
            limit=limit,
            as_json=as_json,
            nothing="no trials; `turnmill trial --model PROVIDER/MODEL` starts one",
        )


@command.command("show")
@trial_argument
@json_option
def show(*, trial: str, as_json: bool) -> int:
    """Show how it compares, so far or in the end."""
    with open_client() as client:
        found = trial_of(client, trial)
        print_trial(found, client.trials.summary(found), as_json=as_json)
    return OK if found.is_over else STILL_RUNNING


@command.command("results")
@trial_argument
def results(*, trial: str) -> None:
    """Print each turn with both replies, one a line, as JSON."""
    with open_client() as client:
        found, last = trial_of(client, trial), 0
        while page := client.trials.results(found, after=last):
            for one in page:
                print_json(result_document(one))
            last = page[-1].line


@command.command("cancel")
@trial_argument
@yes_option
@json_option
def cancel(*, trial: str, yes: bool, as_json: bool) -> None:
    """Ask nobody any more; what there is by then stays."""
    with open_client() as client:
        found = trial_of(client, trial)
        confirm(f"Cancel trial {found.name}?", yes=yes)
        nothing_to_do(found.is_over, f"it is {found.state}")
        over = client.trials.cancel(found)
        print_trial(over, client.trials.summary(over), as_json=as_json)
