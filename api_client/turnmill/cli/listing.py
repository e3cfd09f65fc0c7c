"""What every `ls` shares: --wide and --json, and in pages --limit, --after and where it goes on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar
from uuid import UUID

import click

from turnmill.cli.beside import refuse_beside
from turnmill.cli.context import advise, json_option, say
from turnmill.show.listing import Listing, print_listing
from turnmill.show.tables import be_wide

MOST = 1000  #: on one page


class Listed(Protocol):
    """What bears the id by which a listing goes on."""

    @property
    def id(self) -> UUID: ...  # noqa: D102


T = TypeVar("T", bound=Listed)


def listing_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --wide and --json to a command that prints a row for each thing."""
    return wide_option(json_option(function))


def wide_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --wide to a command that has --json."""

    @functools.wraps(function)
    def command(*args: Any, wide: bool, **options: Any) -> Any:
        if wide:
            refuse_beside("--wide", "as_json", why="JSON has everything")
            be_wide()
        return function(*args, **options)

    return _wide(command)


_wide = click.option(
    "--wide", is_flag=True, help="Nothing left out or cut, however narrow the terminal is."
)


def page_options(noun: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add --limit, --after, --wide and --json to a command that lists `noun`s."""
    limit = click.option(
        "--limit", type=click.IntRange(1, MOST), default=20, show_default=True, help="Of a page."
    )
    after = click.option(
        "--after", metavar=noun.upper(), help="Go on after the last one of the page before."
    )
    return lambda function: limit(after(listing_options(function)))


def print_page(
    read: Callable[..., Sequence[T]],
    listing: Listing[T],
    *,
    find: Callable[[str], Listed],
    after: str | None,
    limit: int,
    as_json: bool,
    nothing: str,
) -> None:
    """Print one page, and say how to go on where there is more.

    `read` takes `after` and `limit`. `find` raises NotFound or InvalidInput for an `after` that is
    no id of this kind; and `nothing` is said where the listing is empty.
    """
    last = None if after is None else find(after).id
    found = read(after=last, limit=limit)
    print_listing(found, listing, as_json=as_json)
    if not found:
        advise(nothing)
    elif read(after=found[-1].id, limit=1):
        say(f"more: --after {found[-1].id}")
