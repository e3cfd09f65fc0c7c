"""What it cost: by time, model, lane, tier and tag; and what was read from caches."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from xml.etree.ElementTree import Element

from turnmill.domain.analytics.report_data import Figures, Group, Metric, ReportData
from turnmill.show.report import reading
from turnmill.show.report.charts import Chart, Series, columns, lines
from turnmill.show.report.elements import Child, el, name, shown_name
from turnmill.show.report.section import (
    MOST_COLOURS,
    REST,
    axis_of,
    dearest_first,
    marks_of,
    nothing,
    section,
)
from turnmill.show.report.tables import Row, Table, bar, changed, open_table

_MOST_ROWS = 12
_PRICED = (
    ("Cost", "what calls cost by the price lists of your workers, in US dollars. A call without a"
     " known price is not in it, and is counted: a + says that there are some."),
    ("Retries", "what calls cost that came to nothing: the vendor charged for them, and nobody got"
     " a reply."),
    ("Tier", "of service, as the vendor's answer says it: a turn without an answer has none."),
    ("The period before", "as long as this one, and right before it."),
)  # fmt: skip
_CACHED = (
    ("From cache", "the share of the input that the vendor read from its cache, at a lower price."
     " A long history with a stable beginning is mostly cached."),
)  # fmt: skip


def cost(data: ReportData) -> Element:
    """Return the section on cost."""
    if not data.now.turns:
        return section("cost", "Cost", None, nothing("No turn ended in this time."))
    return section(
        "cost",
        "Cost",
        _lead(data),
        columns(_by_time(data)),
        open_table(_groups(data, "By model", "Model", data.models)),
        *_others(data),
        definitions=_PRICED,
    )


def _lead(data: ReportData) -> str:
    if data.now.known_usd is None:
        calls = data.now.unpriced_attempts
        has = "has" if calls == 1 else "have"
        return f"What it cost is unknown: {reading.many(calls, 'call')} {has} no known price."
    then = data.before.known_usd if data.before else None
    change = reading.change(data.now.cost_usd, then)
    words = reading.spent(data.now.cost_usd, unpriced=data.now.unpriced_attempts)
    if change.way in ("up", "down"):
        words += f", {change.text}" if then else ""
    if data.models and data.now.cost_usd:
        first = data.models[0]
        part = reading.share(float(first.now.cost_usd / data.now.cost_usd))
        words += f". {shown_name(first.name)} is {part} of it"
    if data.now.cost_usd and data.now.waste_usd:
        lost = reading.share(float(data.now.waste_usd / data.now.cost_usd))
        words += f", and {lost} went into calls that came to nothing"
    return words + "."


def _by_time(data: ReportData) -> Chart:
    groups = dearest_first(data.models)
    series = [
        Series(
            name=shown_name(one.name) or "none",
            colour="rest"
            if one.name == REST
            else f"c{at % MOST_COLOURS + 1}"
            if at < MOST_COLOURS
            else "rest",
            values=[float(value) for value in one.costs_usd],
        )
        for at, one in enumerate(groups)
    ]
    return Chart(
        id="cost-time",
        title=f"Cost by {data.grain}",
        says=_dearest(data),
        axis=axis_of(data, reading.money, reading.scale_money),
        series=series,
        before=[None if one.before is None else float(one.before.cost_usd) for one in data.points],
        marks=marks_of(data, Metric.COST),
        table=_time_table(data, groups),
        least=0.001,
    )


def _dearest(data: ReportData) -> str:
    top = max(data.points, key=lambda one: one.now.cost_usd)
    if not top.now.cost_usd:
        return "Nothing was spent, as far as prices are known."
    when = reading.long_tick(top.at, data.grain, data.zone)
    return f"The dearest {data.grain}: {when}, with {reading.money(top.now.cost_usd)}."


def _time_table(data: ReportData, groups: Sequence[Group]) -> Table:
    heads = [str(data.grain).capitalize(), *(shown_name(one.name) or "none" for one in groups)]
    rows: list[Row] = []
    for at, one in enumerate(data.points):
        row: list[Child] = [reading.long_tick(one.at, data.grain, data.zone)]
        row += [reading.money(group.costs_usd[at]) for group in groups]
        row += [_spent(one.now)]
        row += [_spent(one.before) if one.before else "–"]
        rows.append(row)
    caption = f"Cost by {data.grain} and model"
    return Table(caption=caption, heads=[*heads, "All", "Before"], rows=rows)


def _groups(
    data: ReportData, caption: str, what: str, groups: Sequence[Group], *, empty: str = "none"
) -> Table:
    heads = (what, "Cost", "", "Change", "Turns", "A turn", "Failed", "Retries")
    shown = groups if len(groups) <= _MOST_ROWS else groups[: _MOST_ROWS - 1]
    rows = [_group(one, data.now.cost_usd, empty) for one in shown]
    if len(shown) < len(groups):
        rest = groups[len(shown) :]
        spent = sum((one.now.cost_usd for one in rest), Decimal(0))
        turns = sum(one.now.turns for one in rest)
        more = el("span", f"{len(rest)} more", class_="quiet")
        rows.append([more, reading.money(spent), "", "", reading.whole(turns), "", "", ""])
    return Table(caption=caption, heads=heads, rows=rows)


def _spent(of: Figures) -> str:
    return reading.spent(of.cost_usd, unpriced=of.unpriced_attempts)


def _group(one: Group, whole: Decimal, empty: str) -> Row:
    then = None if one.before is None else one.before.known_usd
    shown = el("span", name(one.name, empty=empty), el("small", name(one.of)) if one.of else None)
    return [
        shown,
        _spent(one.now),
        bar(float(one.now.cost_usd / whole) if whole else 0),
        changed(reading.change(one.now.known_usd, then), good="down"),
        reading.whole(one.now.turns),
        reading.money(one.now.usd_per_turn),
        reading.share(one.now.failure_rate),
        reading.money(one.now.known_waste_usd),
    ]


def _others(data: ReportData) -> list[Child]:
    """Return the same by lane, tier and tag, where these tell anything apart."""
    found: list[Child] = []
    for what, groups in (("Lane", data.lanes), ("Tier", data.tiers), ("Tag", data.tags)):
        if len(groups) < 2:
            continue
        head = data.tag if what == "Tag" and data.tag else what
        caption = f"By {shown_name(head)}" if what == "Tag" else f"By {what.lower()}"
        # A vendor's answer says the tier: where none came, nobody does.
        empty = "not said, or no answer" if what == "Tier" else "none"
        found.append(open_table(_groups(data, caption, shown_name(head), groups, empty=empty)))
    return found


def cache(data: ReportData) -> Element:
    """Return the section on what was read from caches."""
    if not data.now.input_tokens:
        return section("cache", "Cache", None, nothing("No input was counted in this time."))
    values = [one.now.cached_share for one in data.points]
    then = [None if one.before is None else one.before.cached_share for one in data.points]
    table = Table(
        caption=f"Share of the input from a cache, by {data.grain}",
        heads=(str(data.grain).capitalize(), "From cache", "Input tokens", "Before"),
        rows=[
            (
                reading.long_tick(one.at, data.grain, data.zone),
                reading.share(one.now.cached_share),
                reading.short(one.now.input_tokens),
                reading.share(one.before.cached_share if one.before else None),
            )
            for one in data.points
        ],
    )
    chart = Chart(
        id="cache-time",
        title="Share of the input that was read from a cache",
        says=f"{reading.short(data.now.cached_tokens)} of"
        f" {reading.short(data.now.input_tokens)} tokens.",
        axis=axis_of(data, reading.share, reading.scale_share),
        series=[Series(name="from cache", colour="accent", values=values)],
        before=then,
        table=table,
        least=0.1,
    )
    lead = f"{reading.share(data.now.cached_share)} of the input was read from a cache."
    return section("cache", "Cache", lead, lines(chart), _by_model(data), definitions=_CACHED)


def _by_model(data: ReportData) -> Element:
    rows: list[Row] = []
    for one in data.models[:_MOST_ROWS]:
        then = one.before.cached_share if one.before else None
        told = reading.points(one.now.cached_share, then)
        rows.append(
            [
                name(one.name),
                reading.share(one.now.cached_share),
                bar(one.now.cached_share or 0),
                changed(told, good="up"),
                reading.short(one.now.input_tokens),
                reading.short(one.now.output_tokens),
            ]
        )
    heads = ("Model", "From cache", "", "Change", "Input", "Output")
    return open_table(Table(caption="Tokens by model", heads=heads, rows=rows))
