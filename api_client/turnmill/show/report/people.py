"""What users felt, what they talk about, and how conversations go wrong."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from turnmill.domain.analytics.report_data import (
    BehaviourLine,
    Felt,
    ReportData,
    Section,
    TopicLine,
)
from turnmill.show.report import reading
from turnmill.show.report.elements import Child, el, name, put
from turnmill.show.report.section import nothing, section
from turnmill.show.report.tables import Row, Table, bar, changed, open_table

_MOST_TOPICS = 15
_MOST_TERMS = 6
_MUCH = 0.02  # of a score
_RATED = (
    ("Feedback", "what your application passed on of what users said of a reply, from −1 to +1."),
)  # fmt: skip
_ESTIMATED = (
    ("Estimate", "what the shape of a conversation suggests where nobody said anything: its length,"
     " pace, failures, who goes on. Of up to 200 of them, by times alone: a page reads no words."
     " It is an estimate, and feedback always wins."),
)  # fmt: skip
_TOPICS = (
    ("Topic", "words that occur together in what users write, found every night. One that fewer"
     " than five users share is not shown, and nobody is quoted. They are of the last night that"
     " looked, and of the 31 days before it, whatever period this page is of."),
)  # fmt: skip
_BEHAVED = (
    ("Behaviour", "a pattern in the rows of conversations, found by a rule. No model looks at"
     " them."),
)  # fmt: skip


def feedback(data: ReportData) -> Element:
    """Return the section on what users said of replies."""
    felt = data.feedback
    if felt is None:
        words = data.missing.get(Section.FEEDBACK, "Nobody gave feedback in this time.")
        return section("feedback", "Feedback", None, nothing(words), definitions=_RATED)
    defined = _RATED if felt.estimate is None else (*_RATED, *_ESTIMATED)
    return section("feedback", "Feedback", _felt_lead(felt), _scores(felt), definitions=defined)


def _felt_lead(felt: Felt) -> str:
    if not felt.rated or felt.score is None:
        if felt.estimate is not None:
            return f"Nobody gave feedback; conversations are estimated at {_score(felt.estimate)}."
        return "Nobody gave feedback in this time."
    many = "1 reply was" if felt.rated == 1 else f"{reading.whole(felt.rated)} replies were"
    return f"{many} rated, {_score(felt.score)} on average."


def _scores(felt: Felt) -> Element:
    tiles: list[Child] = []
    if felt.rated and felt.score is not None:
        told = _moved(felt.score, felt.before)
        tiles.append(_scored("Feedback", felt.score, f"{reading.whole(felt.rated)} replies", told))
        good = reading.share(felt.good / felt.rated)
        bad = reading.share(felt.bad / felt.rated)
        tiles.append(_told("Liked", good, f"{bad} disliked"))
    if felt.estimate is not None:
        of = f"{reading.whole(felt.estimated)} conversations, estimated"
        tiles.append(_scored("Estimate", felt.estimate, of, None))
    return el("dl", *tiles, class_="tiles few")


def _scored(term: str, score: float, of: str, told: Element | None) -> Element:
    dial = el("span", el("i", style=f"left:{(score + 1) * 50:.1f}%"), class_="dial")
    dial.set("aria-hidden", "true")
    tile = _told(term, _score(score), of)
    return put(tile, [el("dd", dial, told)])


def _told(term: str, value: str, of: str) -> Element:
    shown = el("dd", el("span", value, class_="value"), el("span", of, class_="of"))
    return el("div", el("dt", term), shown, class_="tile")


def _moved(now: float, before: float | None) -> Element | None:
    if before is None:
        return None
    way = "up" if now > before else "down"
    text = f"{'+' if now > before else '−'}{abs(now - before):.2f}"
    return changed(reading.Change(text, way, abs(now - before) >= _MUCH), good="up")


def _score(value: float) -> str:
    return f"{'+' if value > 0 else '−' if value < 0 else ''}{abs(value):.2f}"


def topics(data: ReportData) -> Element:
    """Return the section on what users talk about."""
    if not data.topics:
        words = "No topic of at least five users was found."
        if data.topics is None:
            words = data.missing.get(Section.TOPICS, "Topics are not looked for here.")
        return section("topics", "Topics", None, nothing(words), definitions=_TOPICS)
    first = data.topics[0]
    lead = el("span", "Most is about ", _terms(first, most=3), f": {reading.share(first.share)}.")
    return section("topics", "Topics", lead, _topic_table(data.topics), definitions=_TOPICS)


def _topic_table(found: Sequence[TopicLine]) -> Element:
    most = max(one.share for one in found) or 1
    rows: list[Row] = [
        [
            _terms(one, most=_MOST_TERMS),
            reading.share(one.share),
            bar(one.share / most, colour="c3"),
            changed(reading.points(one.share, one.before)),
            reading.whole(one.sessions),
            reading.whole(one.users),
        ]
        for one in found[:_MOST_TOPICS]
    ]
    heads = ("Words", "Share", "", "Change", "Sessions", "Users")
    return open_table(Table(caption="What users talk about", heads=heads, rows=rows))


def _terms(one: TopicLine, *, most: int) -> Element:
    made = el("span", class_="terms")
    for at, term in enumerate(one.terms[:most]):
        put(made, [", " if at else None, name(term)])
    return made


def behaviours(data: ReportData) -> Element:
    """Return the section on how conversations go wrong."""
    if not data.behaviours:
        words = "No conversation went wrong in one of the ways that are looked for."
        if not data.now.turns:
            words = "No turn ended in this time."
        if data.behaviours is None:
            words = data.missing.get(Section.BEHAVIOURS, "Behaviour is not looked at here.")
        return section("behaviours", "Behaviour", None, nothing(words), definitions=_BEHAVED)
    lead = f"{len(data.behaviours)} patterns were found."
    if len(data.behaviours) == 1:
        lead = "One pattern was found."
    table = _behaviour_table(data.behaviours)
    return section("behaviours", "Behaviour", lead, table, definitions=_BEHAVED)


def _behaviour_table(found: Sequence[BehaviourLine]) -> Element:
    most = max(one.share for one in found) or 1
    rows: list[Row] = [
        [
            el("span", name(one.name), el("small", one.what[:200])),
            reading.share(one.share),
            bar(one.share / most, colour="c4"),
            reading.whole(one.turns),
            reading.whole(one.sessions),
        ]
        for one in found
    ]
    heads = ("Pattern", "Of turns", "", "Turns", "Sessions")
    return open_table(Table(caption="How conversations go wrong", heads=heads, rows=rows))
