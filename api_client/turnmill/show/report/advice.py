"""What to change, which budgets will not last, which alerts there were, and sessions to look at."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from xml.etree.ElementTree import Element

from turnmill.domain.analytics.report_data import (
    AlertLine,
    BudgetLine,
    ReportData,
    Section,
    SessionLine,
    SuggestionLine,
)
from turnmill.show.report import reading
from turnmill.show.report.elements import Child, el, name
from turnmill.show.report.section import nothing, section
from turnmill.show.report.tables import Row, Table, bar, open_table

_LONGEST_WORDS = 400
_LONGEST_TITLE = 120
_SUGGESTED = (
    ("Suggestion", "a change that rows speak for, with what it would have brought in this period."
     " Nothing is changed by itself."),
    ("Confidence", "how sure it is: a trial has measured it, or rows make it likely."),
)  # fmt: skip
_BUDGETED = (
    ("Heading for", "what will be spent by the end of the period, if its other hours are as hours"
     " of the week usually are."),
)  # fmt: skip
_ALERTED = (
    ("Alert", "a figure that has left its bounds. It opens once, and closes when the figure has"
     " been within them for a while."),
)  # fmt: skip
_SHOWN = (
    ("Session", "its id alone, as `turnmill sessions show` takes it: a page says of nobody what he"
     " has asked."),
)  # fmt: skip


def suggestions(data: ReportData) -> Element:
    """Return the section on what to change."""
    found = data.suggestions
    if not found:
        words = "Nothing to change stands out."
        if not data.now.turns:
            words = "No turn ended in this time."
        if found is None:
            words = data.missing.get(Section.SUGGESTIONS, "Suggestions are not made here.")
        return section("suggestions", "What to change", None, nothing(words))
    ranked = sorted(found, key=lambda one: one.saves_usd or Decimal(0), reverse=True)
    saved = data.saves_usd
    lead = f"{len(found)} change{'s' if len(found) > 1 else ''}"
    lead += f", worth about {reading.money(saved)} in a period like this." if saved else "."
    cards = el("ol", *(_card(one) for one in ranked), class_="cards")
    return section("suggestions", "What to change", lead, cards, definitions=_SUGGESTED)


def _card(one: SuggestionLine) -> Element:
    gain = f"{reading.money(one.saves_usd)} less" if one.saves_usd else one.gains
    return el(
        "li",
        el("h3", name(one.title, longest=_LONGEST_TITLE)),
        el("p", gain[:_LONGEST_WORDS], class_="gain"),
        el("p", one.why[:_LONGEST_WORDS]),
        el("p", el("code", one.setting[:_LONGEST_WORDS])) if one.setting else None,
        el("p", one.confidence[:_LONGEST_WORDS], class_="quiet"),
    )


def budgets(data: ReportData) -> Element | None:
    """Return the section on budgets; None where there are none."""
    if not data.budgets:
        return None
    over = [one for one in data.budgets if (one.forecast_usd or 0) > one.limit_usd]
    lead = "None is heading beyond its limit."
    if over:
        lead = f"{len(over)} of {len(data.budgets)} will not last, if things go on as they do."
    rows = [_budget(one, data.zone) for one in data.budgets]
    heads = ("Budget", "Limit", "Spent", "", "Heading for", "Until")
    table = open_table(Table(caption="Budgets in their periods", heads=heads, rows=rows))
    return section("budgets", "Budgets", lead, table, definitions=_BUDGETED)


def _budget(one: BudgetLine, zone: str) -> Row:
    is_over = one.forecast_usd is not None and one.forecast_usd > one.limit_usd
    heading: Child = "–"
    if one.forecast_usd is not None:
        mood = "bad" if is_over else "even"
        heading = el("span", reading.money(one.forecast_usd), class_=f"change {mood}")
    part = float(one.spent_usd / one.limit_usd) if one.limit_usd else 1.0
    return [
        el("span", name(one.name, empty="everybody"), el("small", f"a {one.period}")),
        reading.money(one.limit_usd),
        reading.money(one.spent_usd),
        bar(part, colour="bad" if is_over else "accent"),
        heading,
        "–" if one.ends_at is None else reading.moment(one.ends_at, zone),
    ]


def alerts(data: ReportData) -> Element:
    """Return the section on alerts."""
    if not data.alerts:
        words = nothing("No alert was open in this time.")
        return section("alerts", "Alerts", None, words, definitions=_ALERTED)
    still = sum(one.closed_at is None for one in data.alerts)
    lead = f"{len(data.alerts)} in this time; {still or 'none'} still open."
    rows = [_alert(one, data.zone) for one in data.alerts]
    table = Table(caption="Alerts that were open", heads=("What", "Opened", "Closed"), rows=rows)
    return section("alerts", "Alerts", lead, open_table(table), definitions=_ALERTED)


def _alert(one: AlertLine, zone: str) -> Row:
    closed: Child = el("span", "open", class_="change bad")
    if one.closed_at is not None:
        closed = reading.moment(one.closed_at, zone)
    return [one.what[:_LONGEST_WORDS], reading.moment(one.opened_at, zone), closed]


def sessions(data: ReportData) -> Element:
    """Return the section on sessions that stand out."""
    if not (data.dearest or data.slowest):
        words = nothing("No session stands out.")
        return section("sessions", "Sessions to look at", None, words, definitions=_SHOWN)
    return section(
        "sessions",
        "Sessions to look at",
        None,
        _session_table("The dearest", data.dearest) if data.dearest else None,
        _session_table("The slowest", data.slowest) if data.slowest else None,
        definitions=_SHOWN,
    )


def _session_table(caption: str, found: Sequence[SessionLine]) -> Element:
    most = max(one.cost_usd for one in found)
    is_slow = any(one.longest_ms is not None for one in found)
    rows: list[Row] = []
    for one in found:
        cells: list[Child] = [
            el("code", str(one.session_id)),
            name(one.model),
            reading.spent(one.cost_usd, unpriced=one.unpriced_turns),
        ]
        if not is_slow:
            cells.append(bar(float(one.cost_usd / most) if most else 0))
        cells.append(reading.whole(one.turns))
        if is_slow:
            cells.append(reading.span(one.longest_ms))
        rows.append(cells)
    middle = ("Longest turn",) if is_slow else ()
    heads = ("Session", "Model", "Cost", *(() if is_slow else ("",)), "Turns", *middle)
    return open_table(Table(caption=caption, heads=heads, rows=rows, words=2))
