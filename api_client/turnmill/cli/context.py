"""What commands share: a client, and output for people or for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turnmill.client import Client

json_option = click.option("--json", "as_json", is_flag=True, help="One line of JSON on stdout.")


@contextmanager
def open_client() -> Iterator[Client]:
    """Yield a client set up by TURNMILL_* variables, or by a running `turnmill up` in the home."""
    from turnmill.cli.running_home import settings_of_home
    from turnmill.client import Client

    with Client(settings=settings_of_home()) as client:
        yield client


def print_json(value: Any) -> None:
    """Print one line of JSON: ids and times as text, costs as text, never rounded."""
    click.echo(json.dumps(value, default=_plain, ensure_ascii=False))


def print_table(
    columns: Iterable[str], rows: Iterable[Iterable[object]], *, title: str | None = None
) -> None:
    """Print a table that keeps its shape in a pipe and wraps in a narrow terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    Console().print(table)


def fields(record: Any, *names: str) -> Mapping[str, Any]:
    """Return the named attributes of a record as a mapping."""
    return {name: getattr(record, name) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
