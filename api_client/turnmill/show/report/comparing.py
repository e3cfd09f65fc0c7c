"""What was tried out: trials that asked turns again, and experiments with new sessions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import floor, log10
from types import MappingProxyType
from xml.etree.ElementTree import Element

from turnmill.domain.analytics.report_data import ComparedLine, MeasuredLine, ReportData
from turnmill.domain.dollars import rounded
from turnmill.show.report import reading
from turnmill.show.report.elements import Child, el, name
from turnmill.show.report.section import section
from turnmill.show.report.tables import Row, Table, open_table

_LONGEST = 200
_DEFINED = (
    ("Trial", "stored turns were asked again, of another model or with other settings, without any"
     " effect on their sessions; both replies are compared."),
    ("Experiment", "a share of new sessions of a template gets the other set-up, and each user the"
     " same one always."),
    ("Difference", "after less before, by users; the true one lies between the two figures in 95 of"
     " 100 cases. Where 0 lies between them, nothing was shown."),
)  # fmt: skip


def _dollars(value: float) -> str:
    """Return it with three digits that count: differences of a turn are small."""
    if not 0 < abs(value) < 1:
        return reading.money(value)
    return f"${rounded(value, digits=2 - floor(log10(abs(value)))):f}"


def _score(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


#: Figure → what it is called, and how it is read.
_READ: Mapping[str, tuple[str, Callable[[float], str]]] = MappingProxyType(
    {
        "cost_usd": ("Cost of a turn", _dollars),
        "latency_ms": ("Time of the provider", reading.span),
        "latency_seconds": ("Time to the reply", lambda seconds: reading.span(seconds * 1000)),
        "failures": ("Failed", reading.share),
        "feedback": ("Feedback", _score),
    }
)


def tried_out(data: ReportData) -> Element | None:
    """Return the section on trials and experiments; None where there were none."""
    if not (data.trials or data.experiments):
        return None
    clear = sum(
        any(figure.is_clear for figure in one.figures) for one in (*data.trials, *data.experiments)
    )
    count = len(data.trials) + len(data.experiments)
    of = "one" if count == 1 else f"{clear or 'none'} of {count}"
    lead = f"A difference that is no chance was shown by {of}."
    if not clear:
        lead = "Nothing was shown that could not be chance."
    return section(
        "tried",
        "What was tried",
        lead,
        *(_shown(one, "Trial", "asked again") for one in data.trials),
        *(_shown(one, "Experiment", "had by the other set-up") for one in data.experiments),
        definitions=_DEFINED,
    )


def _shown(one: ComparedLine, kind: str, asked: str) -> Element:
    told = f"{reading.many(one.turns, 'turn')} {asked}, of {reading.many(one.users, 'user')}."
    if not one.figures:
        told = "Nothing to compare yet, or too many sessions for a page to add up."
    return el(
        "div",
        el("h3", f"{kind} ", name(one.name)),
        el("p", name(one.before or "?"), " → ", one.after[:_LONGEST]),
        el("p", told, _agreement(one), class_="quiet"),
        _table(one) if one.figures else None,
        class_="tried",
    )


def _agreement(one: ComparedLine) -> str:
    if one.agreement is None:
        return ""
    said = f" {reading.share(one.agreement)} of the replies say the same"
    if one.agreement_low is None or one.agreement_high is None:
        return f"{said}."
    return f"{said} ({reading.share(one.agreement_low)} to {reading.share(one.agreement_high)})."


def _table(one: ComparedLine) -> Element:
    heads = ("Figure", "Difference", "Before", "After")
    rows = [_row(figure) for figure in one.figures if figure.of in _READ]
    return open_table(
        Table(caption=f"Measured: {one.name[:48]}", heads=heads, rows=rows), is_caption_seen=False
    )


def _row(one: MeasuredLine) -> Row:
    called, read = _READ[one.of]
    between: Child = "too little to say"
    if one.low is not None and one.high is not None:
        words = f"{_signed(one.low, read)} to {_signed(one.high, read)}"
        between = el("strong", words) if one.is_clear else words
    return [called, between, read(one.before), read(one.after)]


def _signed(value: float, read: Callable[[float], str]) -> str:
    said = read(abs(value)).lstrip("+")
    return f"−{said}" if value < 0 else f"+{said}" if value > 0 else said
