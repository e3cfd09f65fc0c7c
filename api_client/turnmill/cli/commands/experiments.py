"""`turnmill experiments`: a share of new sessions gets another set-up."""

from __future__ import annotations

from functools import partial

import click

from turnmill.cli.context import json_option, nothing_to_do, open_client
from turnmill.cli.groups import CommandGroup
from turnmill.cli.json_settings import object_of
from turnmill.cli.listing import page_options, print_page
from turnmill.cli.short_ids import experiment_of
from turnmill.show.experiment_view import EXPERIMENTS, print_experiment, print_result

experiment_argument = click.argument("experiment", metavar="EXPERIMENT")


@click.group("experiments", cls=CommandGroup)
def command() -> None:
    """Two set-ups of a template, compared in new sessions.

    EXPERIMENT is a name, an id, or the beginning of an id.
    """


@command.command("start")
@click.argument("template")
@click.option("--provider", help="Of the other set-up.")
@click.option("--model", help="Of the other set-up.")
@click.option("--settings", metavar="JSON", help="In place of those of the template.")
@click.option("--version", type=click.IntRange(1), help="Another version of the template.")
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    help="Of users that get it.",
)
@click.option("--name", help="What it is known by.  [default: the template, and an id]")
@json_option
def start(
    *,
    template: str,
    provider: str | None,
    model: str | None,
    settings: str | None,
    version: int | None,
    share: float,
    name: str | None,
    as_json: bool,
) -> None:
    """From now on, give a share of the users of TEMPLATE another set-up in new sessions."""
    with open_client() as client:
        found = client.experiments.start(
            template,
            provider=provider,
            model=model,
            settings=object_of(settings),
            version=version,
            share=share,
            name=name,
        )
    print_experiment(found, as_json=as_json)


@command.command("ls")
@page_options("experiment")
def ls(*, limit: int, after: str | None, as_json: bool) -> None:
    """List experiments, newest first."""
    with open_client() as client:
        print_page(
            client.experiments.list,
            EXPERIMENTS,
            find=partial(experiment_of, client),
            after=after,
            limit=limit,
            as_json=as_json,
            nothing="none: turnmill experiments start TEMPLATE --model MODEL",
        )


@command.command("result")
@experiment_argument
@json_option
def result(*, experiment: str, as_json: bool) -> None:
    """Compare the two set-ups as they are now; look as often as you like."""
    with open_client() as client:
        found = experiment_of(client, experiment)
        print_result(client.experiments.result(found), as_json=as_json)


@command.command("stop")
@experiment_argument
@json_option
def stop(*, experiment: str, as_json: bool) -> None:
    """Let new sessions be as their template says; those that took part stay as they are."""
    with open_client() as client:
        before = experiment_of(client, experiment)
        found = client.experiments.stop(before)
    nothing_to_do(before.stopped_at is not None, "it is over already")
    print_experiment(found, as_json=as_json)
