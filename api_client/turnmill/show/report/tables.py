"""Tables of a page: for everybody to read, and below each figure for who cannot see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from turnmill.show.report.elements import Child, el, put
from turnmill.show.report.reading import Change

#: Cells are texts or elements.
Row = Sequence[Child]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A caption, heads of columns, and rows, each of which begins with its own head."""

    caption: str = field(repr=False)
    heads: Sequence[str] = field(repr=False)
    rows: Sequence[Row]
    words: int = 1  #: so many of the first columns hold words; one without a head holds pictures


def folded(table: Table) -> Element:
    """Return a table that is opened by whoever wants it."""
    summary = el("summary", "As a table", el("span", f": {table.caption}", class_="unseen"))
    return el("details", summary, open_table(table, is_caption_seen=False), class_="as-table")


def open_table(table: Table, *, is_caption_seen: bool = True) -> Element:
    """Return a table in a box of its own, which scrolls where the screen is too narrow."""
    caption = el("caption", table.caption, class_=None if is_caption_seen else "unseen")
    heads = [
        el("th", head, scope="col", class_=_kind(at, table)) for at, head in enumerate(table.heads)
    ]
    body = el("tbody", *(_row(row, table) for row in table.rows))
    made = el("table", caption, el("thead", el("tr", *heads)), body)
    return el("div", made, class_="scroll", tabindex=0, role="region", aria_label=table.caption)


def _kind(at: int, table: Table) -> str | None:
    """Return how a column is set: as words, as a picture (it has no head), or as figures."""
    if at < table.words:
        return "words"
    return None if table.heads[at] else "pic"


def _row(cells: Row, table: Table) -> Element:
    row = el("tr")
    for at, cell in enumerate(cells):
        tag = "td" if at else "th"
        made = el(tag, cell, class_=_kind(at, table))
        if not at:
            made.set("scope", "row")
        put(row, [made])
    return row


def bar(share: float, *, colour: str = "accent") -> Element:
    """Return a bar in a cell: a picture of the figure beside it, and of nothing else."""
    style = f"width:{min(1.0, max(0.0, share)) * 100:.1f}%"
    return el(
        "span", el("i", class_=f"fill {colour}", style=style), class_="bar", aria_hidden="true"
    )


def changed(change: Change, *, good: str = "") -> Element | None:
    """Return a change in its colour: `good` is the way that is welcome (""; neither)."""
    if not change.text:
        return None
    welcome = "good" if change.way == good else "bad"
    mood = welcome if change.much and good else "even"
    return el("span", change.text, class_=f"change {mood}")
