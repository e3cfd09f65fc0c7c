"""Tables, facts and JSON on stdout, for people or for programs."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from turnmill.domain.json_values import on_a_line
from turnmill.show.terminal import console as new_console
from turnmill.show.terminal import on_one_line, tell

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


#: Of a table that goes into a pipe or file: nothing is folded there.
_PIPE_WIDTH = 10_000
#: Letters of an id that a terminal shows: its millisecond, and 12 bits of chance.
_SHORT = 18


def print_json(value: Any) -> None:
    """Print one line of JSON: ids and times as text, costs as text, never rounded."""
    tell(on_a_line(json.dumps(value, default=_plain, ensure_ascii=_is_short_of_letters())))


def print_outcome(sentence: str, document: Mapping[str, Any], *, as_json: bool) -> None:
    """Print what a command has done: a sentence for people, a document for programs."""
    if as_json:
        print_json(document)
    else:
        tell(sentence)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Iterable[object]],
    *,
    title: str | None = None,
    right: Collection[str] = (),
    spare: Sequence[str] = (),
    console: Console | None = None,
) -> None:
    """Print a table that keeps its shape in a pipe and fits into a narrow terminal.

    Columns named in `right` hold numbers. Those in `spare` are left out, the last one first, as
    long as the terminal is too narrow for all; what still does not fit is folded, but for ids.
    """
    console = console or stdout_console()
    cells = [[_cell(value) for value in row] for row in _with_short_ids(rows, console)]
    left_out: set[str] = set()
    table = _table(columns, cells, title=title, right=right, left_out=left_out)
    for name in reversed(spare):
        wanted = console.measure(table, options=console.options.update(max_width=_PIPE_WIDTH))
        if wanted.maximum <= console.width:
            break
        left_out.add(name)
        table = _table(columns, cells, title=title, right=right, left_out=left_out)
    console.print(table)


def print_facts(facts: Iterable[tuple[str, object]], *, console: Console | None = None) -> None:
    """Print names and what they stand for, one below the other."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 1))
    grid.add_column(min_width=9, style="dim")
    grid.add_column(overflow="fold")
    for name, value in facts:
        grid.add_row(name, _cell(value))
    (console or stdout_console()).print(grid)


def stdout_console() -> Console:
    """Return rich's door to stdout: as wide as the terminal, or as it takes."""
    narrow = sys.stdout.isatty() or "COLUMNS" in os.environ
    return new_console(width=None if narrow else _PIPE_WIDTH, soft_wrap=not narrow)


def fields(record: Any, *names: str) -> Mapping[str, Any]:
    """Return the named attributes of a record as a mapping."""
    return {name: getattr(record, name) for name in names}


def _table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    title: str | None,
    right: Collection[str],
    left_out: Collection[str],
) -> Table:
    from rich.table import Table

    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="dim",
    )
    kept = [at for at, name in enumerate(columns) if name not in left_out]
    for at in kept:
        table.add_column(
            columns[at],
            overflow="fold",
            no_wrap=columns[at] == "id",
            justify="right" if columns[at] in right else "left",
        )
    for row in rows:
        table.add_row(*(row[at] for at in kept))
    return table


def _with_short_ids(
    rows: Iterable[Iterable[object]], console: Console
) -> Iterable[Iterable[object]]:
    """Return rows for a terminal with as much of each id as tells it from the others there.

    Commands take the beginning of an id; pipes and files get it whole.
    """
    found = [list(row) for row in rows]
    if not console.is_terminal:
        return found
    ids = {cell for row in found for cell in row if isinstance(cell, UUID)}
    times = Counter(str(one)[:_SHORT] for one in ids)
    short = {one: str(one)[:_SHORT] for one in ids if times[str(one)[:_SHORT]] == 1}
    return [[short.get(one, one) if isinstance(one, UUID) else one for one in row] for row in found]


def _cell(value: object) -> Any:
    """Return what rich prints as it stands: text of users is no markup."""
    from rich.text import Text

    if isinstance(value, Text):
        return value
    return Text("" if value is None else on_one_line(str(value)))


def _is_short_of_letters() -> bool:
    """Tell whether stdout has not all letters; JSON is whole all the same."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return not encoding.lower().startswith("utf")


def _plain(value: Any) -> Any:
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return format(value, "f")  # never 0E-10
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
