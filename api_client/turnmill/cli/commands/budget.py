"""`turnmill budget`: what turns may cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from turnmill.cli.context import json_option, open_client
from turnmill.cli.groups import CommandGroup
from turnmill.cli.listing import listing_options
from turnmill.domain.budgets import OnExceeded, Period
from turnmill.show.budget_view import print_budget, print_budgets, print_removed

if TYPE_CHECKING:
    from collections.abc import Callable

_PERIODS = [one.value for one in Period]


def whose_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --session, --user and --tag."""
    function = click.option(
        "--tag", metavar="KEY=VALUE", help="Of turns with this in their metadata."
    )(function)
    function = click.option("--user", metavar="ID", help="Of a user's turns.")(function)
    return click.option("--session", metavar="ID|KEY", help="Of a session's turns.")(function)


@click.group("budget", cls=CommandGroup)
def command() -> None:
    """Bound what turns cost: of everybody, a user, a session or a tag.

    Before each call the most that it may cost is reserved; what it has cost in fact is charged.
    """


@command.command("ls")
@listing_options
def ls(*, as_json: bool) -> None:
    """Show all budgets, and what is spent and reserved in their periods."""
    with open_client() as client:
        found = page = client.budgets.list()
        while page:
            page = client.budgets.list(after=page[-1].id)
            found = [*found, *page]
    print_budgets(found, as_json=as_json)


@command.command("set")
@click.option("--limit-usd", required=True, metavar="USD", help="Such as 12.50.")
@click.option("--period", type=click.Choice(_PERIODS), default=Period.MONTH.value)
@click.option("--timezone", default="UTC", show_default=True, metavar="NAME", help="Asia/Kolkata")
@click.option(
    "--on-exceeded",
    type=click.Choice([one.value for one in OnExceeded]),
    default=OnExceeded.FAIL.value,
    help="What becomes of a turn that does not fit.",
)
@click.option(
    "--warn-at", default="0.8,0.95", show_default=True, help="Shares that an event tells of."
)
@whose_options
@json_option
def set_(
    *,
    limit_usd: str,
    period: str,
    timezone: str,
    on_exceeded: str,
    warn_at: str,
    session: str | None,
    user: str | None,
    tag: str | None,
    as_json: bool,
) -> None:
    """Set a budget, or change the one that there is; what was spent stays."""
    with open_client() as client:
        budget = client.budgets.set(
            limit_usd=limit_usd,
            period=period,
            timezone=timezone,
            on_exceeded=on_exceeded,
            warn_at=_shares(warn_at),
            session=session,
            user_id=user,
            tag=_tag(tag),
        )
    print_budget(budget, as_json=as_json)


@command.command("rm")
@click.option("--period", type=click.Choice(_PERIODS), help="Where there are several.")
@whose_options
@json_option
def rm(
    *, period: str | None, session: str | None, user: str | None, tag: str | None, as_json: bool
) -> None:
    """Remove a budget: of everybody, unless somebody is named."""
    with open_client() as client:
        client.budgets.remove(session=session, user_id=user, tag=_tag(tag), period=period)
    print_removed(as_json=as_json)


def _tag(value: str | None) -> tuple[str, str] | None:
    if value is None:
        return None
    key, has_value, rest = value.partition("=")
    if not has_value:
        raise click.BadParameter("KEY=VALUE, such as team=red", param_hint="--tag")
    return key, rest


def _shares(value: str) -> list[float]:
    try:
        return [float(one) for one in value.split(",") if one.strip()]
    except ValueError:
        raise click.BadParameter(
            "shares with commas, such as 0.8,0.95", param_hint="--warn-at"
        ) from None
