"""The page: one file that needs no other, no network and no script."""

from __future__ import annotations

from importlib.resources import files
from xml.etree.ElementTree import Element

from turnmill.domain.analytics.report_data import ReportData
from turnmill.show.report import advice, comparing, money, people, summary, times, work
from turnmill.show.report.elements import el, written
from turnmill.show.report.section import worded

#: What a browser may do with it: show it, and nothing else.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def report_page(data: ReportData) -> str:
    """Return a report as a page of HTML."""
    parts = _parts(data)
    body = el(
        "body",
        el("a", "Skip to the figures", href="#cost", class_="skip"),
        el(
            "div",
            summary.masthead(data),
            _contents(parts),
            el(
                "main",
                el("h2", "In short", class_="unseen"),
                summary.figures(data),
                summary.worth_a_look(data),
                *parts,
                _notes(data),
            ),
            class_="sheet",
        ),
    )
    return written(el("html", _head(data), body, lang="en"))


def _head(data: ReportData) -> Element:
    style = files("turnmill.show.report").joinpath("page.css").read_text("utf-8")
    policy = el("meta", content=_POLICY)
    policy.set("http-equiv", "Content-Security-Policy")
    return el(
        "head",
        el("meta", charset="utf-8"),
        policy,
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="robots", content="noindex"),
        el("title", summary.title_of(data)),
        el("style", style),
    )


def _parts(data: ReportData) -> list[Element]:
    found = (
        money.cost(data),
        work.volume(data),
        times.latency(data),
        work.failures(data),
        money.cache(data),
        people.feedback(data),
        people.topics(data),
        people.behaviours(data),
        advice.suggestions(data),
        comparing.tried_out(data),
        advice.sessions(data),
        advice.budgets(data),
        advice.alerts(data),
    )
    return [one for one in found if one is not None]


def _contents(parts: list[Element]) -> Element:
    links = []
    for one in parts:
        heading = one.find("header/h2")
        assert heading is not None
        links.append(el("li", el("a", heading.text, href=f"#{one.get('id')}")))
    return el("nav", el("ul", *links), aria_label="Sections")


def _notes(data: ReportData) -> Element:
    lines = [el("p", note) for note in data.notes]
    how = "Made by Turnmill from its own rows, and nothing else. Every figure can be read again"
    how += " with `turnmill analytics report`, and is explained in docs/report.md."
    return el("footer", *lines, el("p", *worded(how)))
