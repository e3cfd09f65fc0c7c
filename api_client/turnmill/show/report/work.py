"""How much was asked, when, and what came to nothing."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from turnmill.domain.analytics.report_data import Metric, Point, ReportData
from turnmill.show.report import reading
from turnmill.show.report.charts import Chart, Series, columns, lines
from turnmill.show.report.elements import Child, el, name, put
from turnmill.show.report.section import axis_of, marks_of, nothing, section
from turnmill.show.report.tables import Row, Table, bar, changed, open_table

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_LEVELS = 7  # of colour, in the table of hours
_COUNTED = (
    ("Turn", "a message that was accepted, with all that was done about it. It counts in the"
     " moment in which it became final."),
    ("Cut short", "cancelled by somebody, or expired before it could run."),
    ("An hour of the week", "how many turns end in it on average, over the weeks of this period."),
)  # fmt: skip
_FAILED = (
    ("Failed", "ended for good without a reply, at the first error that no retry helps against."),
    ("Dead", "ended without a reply after all of its attempts."),
    ("Share", "of all turns that either succeeded or came to nothing; what was cut short is not in"
     " it."),
)  # fmt: skip


def volume(data: ReportData) -> Element:
    """Return the section on how many turns there were, and when."""
    if not data.now.turns:
        return section("volume", "Volume", None, nothing("No turn ended in this time."))
    top = max(data.points, key=lambda one: one.now.turns)
    when = reading.long_tick(top.at, data.grain, data.zone)
    chart = Chart(
        id="volume-time",
        title=f"Turns by {data.grain}",
        says=f"Most ended on {when}: {reading.whole(top.now.turns)}.",
        axis=axis_of(data, reading.whole, reading.short),
        series=[
            Series(name="succeeded", colour="c1", values=[p.now.succeeded for p in data.points]),
            Series(name="came to nothing", colour="bad", values=[p.now.lost for p in data.points]),
            Series(name="cut short", colour="rest", values=[_cut(p) for p in data.points]),
        ],
        before=[None if one.before is None else one.before.turns for one in data.points],
        marks=marks_of(data, Metric.TURNS),
        table=_volume_table(data),
        least=4,
    )
    return section(
        "volume", "Volume", _lead(data), columns(chart), hours(data), definitions=_COUNTED
    )


def _lead(data: ReportData) -> str:
    change = reading.change(data.now.turns, data.before.turns if data.before else None)
    grown = f", {change.text}" if change.way in ("up", "down") else ""
    calls = reading.many(data.now.attempts, "time")
    return f"{reading.many(data.now.turns, 'turn')}{grown}; models were called {calls}."


def _cut(point: Point) -> int:
    return point.now.cancelled + point.now.expired


def _volume_table(data: ReportData) -> Table:
    heads = (
        str(data.grain).capitalize(),
        "Turns",
        "Succeeded",
        "To nothing",
        "Cut short",
        "Before",
    )
    rows = [
        (
            reading.long_tick(one.at, data.grain, data.zone),
            reading.whole(one.now.turns),
            reading.whole(one.now.succeeded),
            reading.whole(one.now.lost),
            reading.whole(_cut(one)),
            reading.whole(one.before.turns) if one.before else "–",
        )
        for one in data.points
    ]
    return Table(caption=f"Turns by {data.grain}", heads=heads, rows=rows)


def hours(data: ReportData) -> Element | None:
    """Return a table of the hours of a week, the busier the darker; None where nothing is known."""
    highest = max((value for row in data.week for value in row), default=0)
    if not highest:
        return None
    day, hour = max(
        ((d, h) for d in range(7) for h in range(24)), key=lambda at: data.week[at[0]][at[1]]
    )
    turns = "turn" if highest == 1 else "turns"
    says = f"Busiest: {_DAYS[day]}, {hour:02}:00, with {reading.short(highest)} {turns} an hour."
    heads = [el("th", el("span", "Day", class_="unseen"), scope="col")]
    heads += [
        el("th", f"{at:02}", scope="col", class_="minor" if at % 6 else None) for at in range(24)
    ]
    rows = [_hours_of(name_, row, highest) for name_, row in zip(_DAYS, data.week, strict=True)]
    caption = el("caption", el("span", "Turns in an hour of the week", class_="title"))
    put(caption, [el("span", says, class_="says")])
    table = el("table", caption, el("thead", el("tr", *heads)), el("tbody", *rows), class_="heat")
    return el(
        "div", table, _key(highest), class_="scroll", tabindex=0, role="region",
        aria_label="Turns in an hour of the week",
    )  # fmt: skip


def _hours_of(day: str, row: object, highest: float) -> Element:
    made = el("tr", el("th", day, scope="row"))
    assert isinstance(row, (list, tuple))
    for hour, value in enumerate(row):
        level = round(value / highest * _LEVELS) or (1 if value else 0)
        shown = reading.short(value)
        title = f"{day} {hour:02}:00: {shown}"
        put(made, [el("td", el("span", shown), class_=f"h{level}", title=title)])
    return made


def _key(highest: float) -> Element:
    steps: list[Child] = [el("i", class_=f"h{level}") for level in range(_LEVELS + 1)]
    turns = "turn" if highest == 1 else "turns"
    return el("p", "0 ", *steps, f" {reading.short(highest)} {turns} an hour", class_="heat-key")


def failures(data: ReportData) -> Element:
    """Return the section on what came to nothing."""
    rate = data.now.failure_rate
    if rate is None:
        return section("failures", "Failures", None, nothing("No turn ended in this time."))
    then = data.before.failure_rate if data.before else None
    moved = reading.points(rate, then)
    lead = f"{reading.share(rate)} came to nothing: {reading.many(data.now.lost, 'turn')}"
    lead += f", {moved.text}." if moved.way in ("up", "down") else "."
    chart = Chart(
        id="failures-time",
        title=f"Share of turns that came to nothing, by {data.grain}",
        says=f"{reading.many(data.now.retries, 'call')}"
        f" {'was a retry' if data.now.retries == 1 else 'were retries'}.",
        axis=axis_of(data, reading.share, reading.scale_share),
        series=[
            Series(
                name="came to nothing",
                colour="bad",
                values=[one.now.failure_rate for one in data.points],
            )
        ],
        before=[None if p.before is None else p.before.failure_rate for p in data.points],
        marks=marks_of(data, Metric.FAILURES),
        table=_failures_table(data),
        least=0.02,
    )
    return section("failures", "Failures", lead, lines(chart), _reasons(data), definitions=_FAILED)


def _failures_table(data: ReportData) -> Table:
    heads = (str(data.grain).capitalize(), "Share", "Failed", "Dead", "Retries", "Before")
    rows = [
        (
            reading.long_tick(one.at, data.grain, data.zone),
            reading.share(one.now.failure_rate),
            reading.whole(one.now.failed),
            reading.whole(one.now.dead),
            reading.whole(one.now.retries),
            reading.share(one.before.failure_rate if one.before else None),
        )
        for one in data.points
    ]
    return Table(caption=f"What came to nothing, by {data.grain}", heads=heads, rows=rows)


def _reasons(data: ReportData) -> Element:
    if not data.reasons:
        return nothing("No turn failed or died in this time, of those whose rows are still there.")
    most = max(one.turns for one in data.reasons)
    rows: list[Row] = [
        [
            el("code", name(one.code)),
            reading.whole(one.turns),
            bar(one.turns / most, colour="bad"),
            changed(reading.change(one.turns, one.before if data.before else None), good="down"),
            reading.whole(one.dead),
            reading.whole(one.sessions),
        ]
        for one in data.reasons
    ]
    heads = ("Why", "Turns", "", "Change", "Dead", "Sessions")
    return open_table(Table(caption="Why turns came to nothing", heads=heads, rows=rows))
