"""A section of a page: a headline that says what it comes to, figures, and what they mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from xml.etree.ElementTree import Element

from turnmill.domain.analytics.report_data import Group, ReportData
from turnmill.show.report.charts import Axis, Mark
from turnmill.show.report.elements import Child, el
from turnmill.show.report.reading import long_tick, moment, tick

#: What a figure means, in a sentence: its name, and that.
Definition = tuple[str, str]

_BEFORE_PERCENT = re.compile(r"(?<=\d) %")
#: Groups that have a colour of their own; the others share one.
MOST_COLOURS = 5
REST = "all others"


def section(
    where: str, title: str, lead: Child, *body: Child, definitions: Sequence[Definition] = ()
) -> Element:
    """Return a section with what its figures mean at its side."""
    heading = el("h2", title, id=f"{where}-heading")
    main = el("div", *body, class_="main")
    defined: list[Element] = []
    for term, meaning in definitions:
        defined += [el("dt", term), el("dd", *worded(meaning[:1].upper() + meaning[1:]))]
    aside = (
        el("aside", el("dl", *defined), aria_label=f"{title}: what is what") if defined else None
    )
    head = el("header", heading, el("p", lead, class_="lead") if lead is not None else None)
    return el(
        "section", head, main, aside, id=where, class_="part", aria_labelledby=f"{where}-heading"
    )


def worded(text: str) -> Iterator[Child]:
    """Yield our own words: what stands between backticks is code; a number stays with its %."""
    for n, part in enumerate(_BEFORE_PERCENT.sub("\u00a0%", text).split("`")):
        yield el("code", part) if n % 2 else part


def nothing(words: str) -> Element:
    """Return what stands where there is nothing to show, or nothing is known."""
    return el("p", words, class_="nothing")


def axis_of(data: ReportData, read: Callable[[float], str], scale: Callable[[float], str]) -> Axis:
    """Return the axis of all charts over time."""
    return Axis(
        ticks=[tick(one.at, data.grain, data.zone) for one in data.points],
        names=[long_tick(one.at, data.grain, data.zone) for one in data.points],
        read=read,
        scale=scale,
    )


def marks_of(data: ReportData, metric: str) -> list[Mark]:
    """Return a mark for each point in which a figure is out of the ordinary."""
    found: dict[int, str] = {}
    for one in data.anomalies:
        if one.metric != metric:
            continue
        for at, point in enumerate(data.points):
            if point.at <= one.at < point.until:
                when = moment(one.at, data.zone)
                found.setdefault(at, f"{when}: {'more' if one.is_above else 'less'} than usual")
    return [Mark(at=at, what=what) for at, what in sorted(found.items())]


def dearest_first(groups: Sequence[Group]) -> list[Group]:
    """Return the groups that have a colour of their own, and one of all others."""
    known = [one for one in groups if one.costs_usd]
    if len(known) <= MOST_COLOURS + 1:
        return known
    rest = known[MOST_COLOURS:]
    sums = [sum(column, Decimal(0)) for column in zip(*(g.costs_usd for g in rest), strict=True)]
    return [*known[:MOST_COLOURS], Group(name=REST, now=rest[0].now, costs_usd=sums)]
