"""The head of a page: the week in a sentence, six figures, and what is worth a look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from xml.etree.ElementTree import Element

from turnmill.domain.analytics.anomalies import LONGEST_LOOK
from turnmill.domain.analytics.report_data import Anomaly, Figures, Metric, ReportData, Span
from turnmill.domain.analytics.usual import LEAST_WEEKS, WEEK
from turnmill.show.report import reading
from turnmill.show.report.charts import sparkline
from turnmill.show.report.elements import Child, el, name, put
from turnmill.show.report.reading import Change
from turnmill.show.report.tables import changed

_MOST_TO_LOOK_AT = 8
#: So much of the period before has to be known for it to be compared without a word.
_WHOLE = 0.95
_METRICS = {Metric.COST: "cost", Metric.TURNS: "turns", Metric.FAILURES: "failed turns"}


def title_of(data: ReportData) -> str:
    """Return what the page is called."""
    return f"Turnmill, {reading.dates(data.since, data.until, data.zone)}"


def masthead(data: ReportData) -> Element:
    """Return the title, of when the figures are, and what they come to."""
    before = f"compared with the {_length(data)} before" if data.before else None
    facts = [f"Days of {data.zone}", before, f"made {reading.moment(data.made_at, data.zone)}"]
    return el(
        "header",
        el("p", "Turnmill report", class_="eyebrow"),
        el("h1", reading.dates(data.since, data.until, data.zone)),
        el("p", *_sentence(data), class_="summary"),
        el("p", " · ".join(filter(None, facts)), class_="facts"),
        _unfinished(data),
        el("p", words, class_="caution") if (words := begun(data)) else None,
        class_="masthead",
    )


def _length(data: ReportData) -> str:
    hours = round((data.until - data.since).total_seconds() / 3600)
    return f"{round(hours / 24)} days" if hours >= 48 else f"{hours} hours"


def _unfinished(data: ReportData) -> Element | None:
    if data.whole_until is not None and data.whole_until >= data.until:
        return None
    words = "No turn was added up yet: figures are written by beat."
    if data.whole_until is not None:
        when = reading.moment(data.whole_until, data.zone)
        words = f"Turns that ended after {when} are not in it yet."
    return el("p", words, class_="caution")


def begun(data: ReportData) -> str:
    """Return that the period before is not whole, where figures begin in the middle of it."""
    length, first = data.until - data.since, data.known_since
    if data.before is None or first is None or first <= data.since - length * _WHOLE:
        return ""
    when = reading.moment(first, data.zone)
    words = f"Figures begin on {when}: the period before is not whole, and growth is less than it"
    return f"{words} looks."


def _sentence(data: ReportData) -> Iterator[Child]:
    now = data.now
    if not now.turns:
        yield "No turn ended in this time."
        return
    yield el("strong", reading.many(now.turns, "turn"))
    yield " ended, and cost " if now.known_usd is not None else " ended; what they cost is "
    yield el("strong", reading.spent(now.cost_usd, unpriced=now.unpriced_attempts))
    yield _beside(reading.change(now.known_usd, data.before.known_usd if data.before else None))
    total = total_span(data)
    if total is not None:
        yield f". Half took up to {reading.span(total.p50_ms)}"
        yield f", 95 of a hundred up to {reading.span(total.p95_ms)}"
    if now.failure_rate is not None:
        yield ". "
        yield el("strong", reading.share(now.failure_rate))
        yield " came to nothing"
    yield "."
    if now.unpriced_attempts:
        has = "has" if now.unpriced_attempts == 1 else "have"
        is_not = "is" if now.unpriced_attempts == 1 else "are"
        calls = reading.many(now.unpriced_attempts, "call")
        yield f" {calls} {has} no known price and {is_not} not in it."


def _beside(change: Change) -> str:
    if change.way in ("none", "same") or not change.text[0].isprintable():
        return ""
    return f" ({change.text})" if change.text[0] in "+−×" else ""


def total_span(data: ReportData) -> Span | None:
    """Return how long turns took in all; None where nothing is known of that."""
    found = [one.now for one in data.durations if one.of == "total" and not one.model]
    return found[0] if found else None


def figures(data: ReportData) -> Element:
    """Return the six figures that everybody asks for first."""
    then = data.before or Figures()
    known = data.before is not None
    total = next((one for one in data.durations if one.of == "total" and not one.model), None)
    p50 = total.now.p50_ms if total and total.now else None
    was = total.before.p50_ms if total and total.before else None
    now = data.now
    return el(
        "dl",
        _tile(
            "Cost",
            reading.spent(now.cost_usd, unpriced=now.unpriced_attempts),
            reading.change(now.known_usd, then.known_usd if known else None),
            [float(one.now.cost_usd) for one in data.points] if now.known_usd is not None else (),
            good="down",
        ),
        _tile(
            "Turns",
            reading.whole(now.turns),
            reading.change(now.turns, then.turns if known else None),
            [one.now.turns for one in data.points],
        ),
        _tile(
            "Median turn",
            reading.span(p50),
            reading.change(p50, was),
            [None if one is None else one.p50_ms for one in (total.points if total else ())],
            good="down",
        ),
        *_shares(data),
        _tile(
            "Spent on retries",
            reading.money(now.known_waste_usd),
            reading.change(now.known_waste_usd, then.known_waste_usd if known else None),
            [float(one.now.waste_usd) for one in data.points] if now.known_usd is not None else (),
            good="down",
        ),
        class_="tiles",
    )


def _shares(data: ReportData) -> Iterator[Element]:
    """Yield the figures that are shares: of turns that failed, and of input read from a cache."""
    now, then = data.now, data.before
    yield _tile(
        "Failed",
        reading.share(now.failure_rate),
        reading.points(now.failure_rate, then.failure_rate if then else None),
        [one.now.failure_rate for one in data.points],
        good="down",
    )
    yield _tile(
        "From cache",
        reading.share(now.cached_share),
        reading.points(now.cached_share, then.cached_share if then else None),
        [one.now.cached_share for one in data.points],
        good="up",
    )


def _tile(
    term: str, value: str, change: Change, values: Sequence[float | None], *, good: str = ""
) -> Element:
    than = el("span", " than the period before", class_="unseen")
    told = changed(change, good=good)
    if told is not None and change.way in ("up", "down"):
        put(told, [than])
    shown = el("dd", el("span", value, class_="value"), told)
    return el("div", el("dt", term), shown, _drawn(values), class_="tile")


def _drawn(values: Sequence[float | None]) -> Element | None:
    line = sparkline(values)
    return None if line is None else el("dd", line, class_="drawn", aria_hidden="true")


def worth_a_look(data: ReportData) -> Element:
    """Return what somebody should see to: alerts, budgets, spans out of the ordinary, advice."""
    found = [*_alerts(data), *_budgets(data), *_anomalies(data), *_advice(data)]
    if not found:
        words = "Nothing stands out: no alert is open, and every hour is as its hours usually are."
        if not _is_judged(data):
            words = "No alert is open. What hours usually come to is known after three weeks, and"
            words += " told of up to 93 days."
        if not data.now.turns:
            words = "There is nothing to look at: no turn ended, and no alert is open."
        return el("p", words, class_="quiet-week")
    kept = found[:_MOST_TO_LOOK_AT]
    if len(found) > len(kept):
        kept.append(el("li", f"and {len(found) - len(kept)} more, below", class_="quiet"))
    heading = el("h2", "Worth a look", id="look-heading")
    return el("section", heading, el("ul", *kept), class_="look", aria_labelledby="look-heading")


def _is_judged(data: ReportData) -> bool:
    """Tell whether hours of all of the period were held against what is usual."""
    known = data.known_since is not None and data.known_since <= data.since - LEAST_WEEKS * WEEK
    return known and data.until - data.since <= LONGEST_LOOK


def _alerts(data: ReportData) -> Iterator[Element]:
    for one in data.alerts:
        if one.closed_at is None:
            when = f"since {reading.moment(one.opened_at, data.zone)}"
            yield _item("Alert", one.what, when, where="alerts", mood="bad")


def _budgets(data: ReportData) -> Iterator[Element]:
    for one in data.budgets:
        if one.forecast_usd is None or one.forecast_usd <= one.limit_usd:
            continue
        much = f"{reading.money(one.forecast_usd)} of {reading.money(one.limit_usd)}"
        what = el(
            "span",
            "the ",
            one.period,
            " of ",
            name(one.name, empty="everybody"),
            f" is heading for {much}",
        )
        yield _item("Budget", what, "", where="budgets", mood="bad")


def _anomalies(data: ReportData) -> Iterator[Element]:
    for one in sorted(data.anomalies, key=_weight, reverse=True):
        read = reading.money if one.metric is Metric.COST else reading.whole
        what = f"{read(one.value)}{'' if one.metric is Metric.COST else ' ' + _METRICS[one.metric]}"
        what += f" where about {read(one.expected)} is usual"
        where = {Metric.COST: "cost", Metric.FAILURES: "failures"}.get(one.metric, "volume")
        mood = "even" if one.metric is Metric.TURNS or not one.is_above else "bad"
        when = reading.moment(one.at, data.zone)
        yield _item(_METRICS[one.metric].capitalize(), what, when, where=where, mood=mood)


def _weight(one: Anomaly) -> float:
    return abs(one.value - one.expected) / max(one.expected, 1e-9)


def _advice(data: ReportData) -> Iterator[Element]:
    best = sorted(data.suggestions or (), key=lambda one: one.saves_usd or Decimal(0), reverse=True)
    for one in best[:3]:
        saves = f"about {reading.money(one.saves_usd)} less" if one.saves_usd else one.gains
        yield _item("Change", name(one.title, longest=100), saves, where="suggestions", mood="good")


def _item(kind: str, what: Child, when: str, *, where: str, mood: str) -> Element:
    link = el("a", what, href=f"#{where}")
    return el(
        "li",
        el("span", kind, class_=f"kind {mood}"),
        el("span", link, el("span", when, class_="when") if when else None, class_="said"),
    )
