"""Tables, facts and JSON on stdout, for people or for programs."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from turnmill.domain.json_values import on_a_line
from turnmill.show.terminal import console as new_console
from turnmill.show.terminal import on_one_line, tell

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text


#: Of a table that goes into a pipe or file: nothing is folded there.
_PIPE_WIDTH = 10_000
#: So much of a text is worth more than a further column, unless a listing says how much.
ENOUGH = 20
#: Of a cell that is cut, at least.
_LEAST = 8
_WIDE = "turnmill.wide"
_BETWEEN = 2  # columns
#: Letters of a time: a narrow terminal goes without what is behind its second.
_TO_THE_SECOND = 19
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
    cut: bool = False,
    enough: int = ENOUGH,
    console: Console | None = None,
) -> None:
    """Print a table that keeps its shape in a pipe and fits into a narrow terminal.

    Columns named in `right` hold numbers. Those in `spare` are left out, the last one first, as
    long as the terminal is too narrow for all. What still does not fit is folded, but for ids; with
    `cut`, texts end in `…` instead, so that each row is a line: before spare columns are there,
    a text has `enough` letters.
    """
    console = console or stdout_console()
    cut = cut and console.width < _PIPE_WIDTH
    found = [list(row) for row in rows]
    times = [at for at, _ in enumerate(columns) if _holds(found, at, datetime)]
    whole = {at for at, name in enumerate(columns) if name in right or _holds(found, at, UUID)}
    cells = [[_cell(value) for value in row] for row in _with_short_ids(found, console)]
    widths = _widths(columns, cells)
    if cut and times and _across(widths, range(len(columns))) > console.width:
        for row, at in product(cells, times):
            row[at].truncate(_TO_THE_SECOND)
        widths = _widths(columns, cells)
    least = [
        width if at in {*whole, *times} or not cut else min(width, enough)
        for at, width in enumerate(widths)
    ]
    says = [any(row[at].plain for row in cells) for at in range(len(columns))]
    kept = _kept(columns, least, spare=spare, says=says, room=console.width)
    if cut:
        _cut(cells, _fitted(widths, kept, whole={*whole, *times}, room=console.width))
    console.print(_table(columns, cells, title=title, right=right, kept=kept))


def print_facts(facts: Iterable[tuple[str, object]], *, console: Console | None = None) -> None:
    """Print names and what they stand for, one below the other."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 1))
    grid.add_column(min_width=9, style="dim")
    grid.add_column(overflow="fold")
    for name, value in facts:
        grid.add_row(name, _cell(value))
    (console or stdout_console()).print(grid)


def be_wide() -> None:
    """Let nothing be left out or cut in what the command at hand prints: lines are as long."""
    click.get_current_context().meta[_WIDE] = True


def _is_wide() -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and _WIDE in context.meta


def stdout_console() -> Console:
    """Return rich's door to stdout: as wide as the terminal, or as it takes."""
    narrow = (sys.stdout.isatty() or "COLUMNS" in os.environ) and not _is_wide()
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
    kept: Sequence[int],
) -> Table:
    from rich.table import Table

    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        padding=(0, _BETWEEN, 0, 0),
        header_style="dim",
    )
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


def _kept(
    columns: Sequence[str],
    widths: Sequence[int],
    *,
    spare: Sequence[str],
    says: Sequence[bool],
    room: int,
) -> list[int]:
    """Return which columns fit, by their places; those that are not spare are always there.

    Of the spare ones those go first that say nothing of any row.
    """
    kept = list(range(len(columns)))
    for at in sorted((columns.index(name) for name in reversed(spare)), key=lambda at: says[at]):
        if _across(widths, kept) <= room:
            break
        kept.remove(at)
    return kept


def _fitted(
    widths: Sequence[int], kept: Sequence[int], *, whole: Collection[int], room: int
) -> dict[int, int]:
    """Return how wide texts may be, so that a row fits: the longest give, and none beyond need."""
    fitted = {at: widths[at] for at in kept if at not in whole}
    beyond = _across(widths, kept) - room
    while beyond > 0 and fitted:
        longest = max(fitted, key=lambda at: fitted[at])
        if fitted[longest] <= _LEAST:
            break
        fitted[longest] -= 1
        beyond -= 1
    return fitted


def _across(widths: Sequence[int], kept: Sequence[int]) -> int:
    return sum(widths[at] for at in kept) + _BETWEEN * (len(kept) - 1)


def _cut(cells: Sequence[Sequence[Text]], widths: Mapping[int, int]) -> None:
    for row in cells:
        for at, width in widths.items():
            row[at].truncate(width, overflow="ellipsis")


def _holds(rows: Sequence[Sequence[object]], at: int, kind: type) -> bool:
    return any(isinstance(row[at], kind) for row in rows)


def _widths(columns: Sequence[str], cells: Sequence[Sequence[Text]]) -> list[int]:
    """Return how wide each column would like to be."""
    return [
        max(1, _width_of(name), *(_width_of(row[at].plain) for row in cells))
        for at, name in enumerate(columns)
    ]


def _with_short_ids(
    found: Sequence[Sequence[object]], console: Console
) -> Sequence[Sequence[object]]:
    """Return rows for a terminal with as much of each id as tells it from the others there.

    Commands take the beginning of an id; pipes and files get it whole.
    """
    if not console.is_terminal or _is_wide():
        return found
    ids = {cell for row in found for cell in row if isinstance(cell, UUID)}
    times = Counter(str(one)[:_SHORT] for one in ids)
    short = {one: str(one)[:_SHORT] for one in ids if times[str(one)[:_SHORT]] == 1}
    return [[short.get(one, one) if isinstance(one, UUID) else one for one in row] for row in found]


def _cell(value: object) -> Text:
    """Return what rich prints as it stands: text of users is no markup."""
    from rich.text import Text

    if isinstance(value, Text):
        return value
    if isinstance(value, datetime):
        from turnmill.show.wording import moment_text

        return Text(moment_text(value))
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


def _width_of(text: str) -> int:
    from rich.cells import cell_len

    return max(map(cell_len, text.split("\n")))
