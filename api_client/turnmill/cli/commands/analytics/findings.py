"""`turnmill analytics topics`, `behaviours` and `suggest`: what to look at, and what to change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from turnmill.cli.context import json_option, open_client
from turnmill.cli.listing import listing_options
from turnmill.show.topics_view import print_behaviours, print_suggestion, print_topics

_thorough = click.option(
    "--thorough", is_flag=True, help="Look at each turn, of more than 30,000 too."
)


def _scope_options(default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add --session, --user, --since and --until."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option(
                "--until", metavar="WHEN", help="The end of the window; now unless given."
            ),
            click.option(
                "--since",
                metavar="SPAN|WHEN",
                default=default,
                show_default=True,
                help="Turns that ended since: 24h, 7d, 4w, a day or a moment.",
            ),
            click.option("--user", "user_id", metavar="USER", help="Of this user's turns."),
            click.option("--session", metavar="KEY|ID", help="Of this session's turns."),
        ):
            function = option(function)
        return function

    return add


@click.command("topics")
@listing_options
def topics(*, as_json: bool) -> None:
    """Show what people talk about, as workers have found it last night.

    Topics that fewer than five users talk about are counted and not shown. `turnmill upkeep run
    find-topics` looks now; it takes turnmill[analytics].
    """
    with open_client() as client:
        found = client.analytics.topics()
    print_topics(found, as_json=as_json)


@click.command("behaviours")
@_scope_options("7d")
@click.option(
    "--examples",
    type=click.IntRange(0, 100),
    default=5,
    show_default=True,
    help="Sessions of each.",
)
@_thorough
@listing_options
def behaviours(
    *,
    session: str | None,
    user_id: str | None,
    since: str,
    until: str | None,
    examples: int,
    thorough: bool,
    as_json: bool,
) -> None:
    """Show how conversations go wrong, by rows alone: loops, cut replies, long silences."""
    with open_client() as client:
        found = client.analytics.behaviours(
            session=session,
            user_id=user_id,
            since=since,
            until=until,
            examples=examples,
            thorough=thorough,
        )
    print_behaviours(found, as_json=as_json)


@click.command("suggest")
@_scope_options("31d")
@click.option("--evidence", is_flag=True, help="Show formulas, and the figures that they are of.")
@_thorough
@json_option
def suggest(
    *,
    session: str | None,
    user_id: str | None,
    since: str,
    until: str | None,
    evidence: bool,
    thorough: bool,
    as_json: bool,
) -> None:
    """Show what could be done better, what it may bring, and how sure that is."""
    with open_client() as client:
        found = client.analytics.suggest(
            session, user_id=user_id, since=since, until=until, thorough=thorough
        )
    print_suggestion(found, as_json=as_json, evidence=evidence)
