"""How long it took: in the queue, to the first token, at the vendor, in all."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree.ElementTree import Element

from turnmill.domain.analytics.report_data import Duration, ReportData, Span
from turnmill.show.report import reading
from turnmill.show.report.charts import Chart, Series, lines
from turnmill.show.report.elements import el, name
from turnmill.show.report.section import axis_of, nothing, section
from turnmill.show.report.tables import Row, Table, bar, changed, open_table

_MOST_MODELS = 12
_NAMES = {
    "queued": "In the queue",
    "first_token": "To the first token",
    "provider": "At the vendor",
    "total": "In all",
}
_TIMED = (
    ("In all", "from when a message was accepted until its turn was final, of interactive turns,"
     " those that came to nothing too."),
    ("In the queue", "from when it was accepted until a worker took it for the first time."),
    ("To the first token", "from the request to the first piece of the reply, where it was"
     " streamed."),
    ("At the vendor", "of the request that was answered."),
    ("Median", "half of the turns took no longer. 95 %: of a hundred, five took longer. Within 1 %"
     " of what sorting all turns would show."),
)  # fmt: skip


def latency(data: ReportData) -> Element:
    """Return the section on how long turns took."""
    total = next((one for one in data.durations if one.of == "total" and not one.model), None)
    if total is None or total.now is None:
        return section("latency", "Latency", None, nothing("No interactive turn ended."))
    lead = f"Half took up to {reading.span(total.now.p50_ms)}"
    lead += f", 95 of a hundred up to {reading.span(total.now.p95_ms)}."
    chart = _chart(data, total)
    return section(
        "latency",
        "Latency",
        lead,
        None if chart is None else lines(chart),
        _parts(data),
        _by_model(data),
        definitions=_TIMED,
    )


def _chart(data: ReportData, total: Duration) -> Chart | None:
    if not total.points:
        return None

    def of(which: Callable[[Span], float]) -> list[float | None]:
        return [None if one is None else which(one) for one in total.points]

    p50, p95 = of(lambda one: one.p50_ms), of(lambda one: one.p95_ms)
    rows = [
        (
            reading.long_tick(point.at, data.grain, data.zone),
            reading.span(half),
            reading.span(most),
            reading.whole(one.count) if one else "0",
        )
        for point, one, half, most in zip(data.points, total.points, p50, p95, strict=True)
    ]
    return Chart(
        id="latency-time",
        title="From accepted to the end",
        says="Interactive turns.",
        axis=axis_of(data, reading.span, reading.scale_span),
        series=[
            Series(name="median", colour="c1", values=p50),
            Series(name="95 %", colour="c2", values=p95),
        ],
        table=Table(
            caption=f"From accepted to the end, by {data.grain}",
            heads=(str(data.grain).capitalize(), "Median", "95 %", "Turns"),
            rows=rows,
        ),
        least=10,
    )


def _parts(data: ReportData) -> Element:
    rows: list[Row] = []
    for one in data.durations:
        if one.model or one.now is None:
            continue
        told = reading.change(one.now.p50_ms, one.before.p50_ms if one.before else None)
        rows.append(
            [
                _NAMES.get(one.of, one.of),
                reading.span(one.now.p50_ms),
                changed(told, good="down"),
                reading.span(one.now.p95_ms),
                reading.span(one.now.p99_ms),
                reading.whole(one.now.count),
            ]
        )
    heads = ("Time", "Median", "Change", "95 %", "99 %", "Turns")
    return open_table(Table(caption="Where the time goes", heads=heads, rows=rows))


def _by_model(data: ReportData) -> Element | None:
    found = [one for one in data.durations if one.model and one.now is not None]
    if not found:
        return None
    most = max(one.now.p95_ms for one in found if one.now) or 1
    rows: list[Row] = []
    for one in found[:_MOST_MODELS]:
        assert one.now is not None
        told = reading.change(one.now.p50_ms, one.before.p50_ms if one.before else None)
        rows.append(
            [
                el("span", name(one.model), el("small", name(one.provider))),
                reading.span(one.now.p50_ms),
                bar(one.now.p50_ms / most, colour="c1"),
                changed(told, good="down"),
                reading.span(one.now.p95_ms),
                bar(one.now.p95_ms / most, colour="c2"),
                reading.whole(one.now.count),
            ]
        )
    heads = ("Model", "Median", "", "Change", "95 %", "", "Turns")
    return open_table(Table(caption="At the vendor, by model", heads=heads, rows=rows))
