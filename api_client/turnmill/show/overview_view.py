"""A report in a terminal: its first figures, its models, what is worth a look; and alerts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from turnmill.domain.analytics.alert_words import sentence
from turnmill.show.listing import Listing
from turnmill.show.report import reading
from turnmill.show.report.document import document
from turnmill.show.report.summary import begun
from turnmill.show.tables import print_facts, print_json, print_table
from turnmill.show.terminal import say
from turnmill.show.wording import known_usd, moment_text, relative

if TYPE_CHECKING:
    from turnmill.domain.analytics.report_data import ReportData
    from turnmill.store.analytics.alerts import Alert

_COLUMNS = ("provider", "model", "turns", "failed", "cache", "USD", "change")
_SPARE = ("provider", "cache", "failed")


def print_overview(data: ReportData, *, as_json: bool) -> None:
    """Print it."""
    if as_json:
        print_json(document(data))
        return
    print_facts(_facts(data))
    if data.models:
        print_table(_COLUMNS, _models(data), right=_COLUMNS[2:], spare=_SPARE)
    for one in data.alerts:
        if one.closed_at is None:
            say(f"alert: {one.what}")
    if data.whole_until is None:
        say("no turn was added up yet: figures are written by beat")
    if words := begun(data):
        say(words)


def _facts(data: ReportData) -> Iterator[tuple[str, object]]:
    now, before = data.now, data.before
    yield "window", f"{reading.dates(data.since, data.until, data.zone)}, {data.zone}"
    yield "turns", _with(reading.whole(now.turns), now.turns, before.turns if before else None)
    cost = before.known_usd if before else None
    shown = reading.spent(now.cost_usd, unpriced=now.unpriced_attempts)
    yield "cost", _with(shown, now.known_usd, cost)
    yield "failed", reading.share(now.failure_rate)
    yield "cached", reading.share(now.cached_share)
    for one in data.durations:
        if one.of == "total" and one.now is not None:
            spans = f"{reading.span(one.now.p50_ms)} median, {reading.span(one.now.p95_ms)} 95 %"
            yield "took", spans
    if data.whole_until is not None:
        yield "whole until", moment_text(data.whole_until)


def _with(shown: str, now: object, before: object) -> str:
    change = reading.change(now, before)  # type: ignore[arg-type]
    return f"{shown} ({change.text})" if change.way in ("up", "down") else shown


def _models(data: ReportData) -> Iterator[tuple[object, ...]]:
    for one in data.models:
        then = one.before.known_usd if one.before else None
        yield (
            one.of,
            one.name,
            reading.whole(one.now.turns),
            reading.share(one.now.failure_rate),
            reading.share(one.now.cached_share),
            known_usd(one.now.cost_usd, unpriced=one.now.unpriced_attempts),
            reading.change(one.now.known_usd, then).text,
        )


def _said(one: Alert) -> str:
    return sentence(one.rule, one.subject, value=one.worst, usual=one.usual)


def _alert(one: Alert) -> tuple[object, ...]:
    now = datetime.now(UTC)
    closed = "open" if one.closed_at is None else relative(one.closed_at, now=now)
    return (one.rule.value, _said(one), relative(one.opened_at, now=now), closed)


ALERTS: Listing[Alert] = Listing(
    columns=("rule", "what", "opened", "closed"),
    row=_alert,
    document=lambda one: {**asdict(one), "what": _said(one)},
    spare=("rule",),
    enough=60,  # a sentence says its rule
)
