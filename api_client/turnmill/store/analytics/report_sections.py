"""What a report takes from what others find: feedback, topics, behaviour, suggestions.

Behaviour and suggestions look at the turns of a window one by one: of very many, at a sample,
unless there is time for all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType

from sqlalchemy import ColumnElement, Connection, and_

from turnmill.domain.analytics.behaving import Behaviour
from turnmill.domain.analytics.report_data import (
    BehaviourLine,
    Felt,
    Section,
    SuggestionLine,
    TopicLine,
)
from turnmill.domain.analytics.suggesting.findings import Finding, SuggestionRule
from turnmill.domain.analytics.windows import Window
from turnmill.domain.errors import DataKeyMissing, SealBroken
from turnmill.store.analytics import feedback as said
from turnmill.store.analytics import suggestions, topics
from turnmill.store.analytics.behaviours import BehaviourCluster
from turnmill.store.analytics.drawn import Drawn, draw
from turnmill.store.analytics.estimating import estimates_in
from turnmill.store.analytics.figures import Totals
from turnmill.store.schema.feedback_tables import feedback

_SHOWN = 20
_WORDS: Mapping[Behaviour, tuple[str, str]] = MappingProxyType(
    {
        Behaviour.TOOL_LOOP: ("Tool loops", "one tool was called eight times or more in a turn"),
        Behaviour.CUT_BY_LENGTH: ("Cut answers", "the reply ended where its limit of length did"),
        Behaviour.RETRIED: ("Many retries", "it took three attempts or more"),
        Behaviour.LONG_SILENCE: ("Long silences", "somebody waited for a minute or more"),
        Behaviour.SENT_AGAIN: ("Sent again", "its user wrote again before there was an answer"),
        Behaviour.FAILED: ("No answer", "there never was one"),
        Behaviour.GIVEN_UP: ("Given up", "there was no answer, and nothing was said after it"),
    }
)
#: What there is less of, where that is not money.
_LESS: Mapping[SuggestionRule, str] = MappingProxyType(
    {
        SuggestionRule.ANSWERS_CUT: "fewer answers cut off",
        SuggestionRule.LIMIT_TOO_HIGH: "fewer tokens reserved",
        SuggestionRule.RETRY_STORM: "fewer calls that fail",
        SuggestionRule.DEAD_TARGET: "fewer calls that fail",
        SuggestionRule.CACHE_UNUSED: "fewer tokens paid in full",
        SuggestionRule.HISTORY_GROWS: "fewer tokens sent",
        SuggestionRule.FEW_WORKERS: "less waiting for a slot",
        SuggestionRule.TOOL_LOOPS: "fewer turns in loops",
        SuggestionRule.SENT_AGAIN: "fewer messages sent again",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sections:
    """What others have found, and why what is missing is."""

    feedback: Felt | None
    topics: Sequence[TopicLine] | None
    behaviours: Sequence[BehaviourLine] | None
    suggestions: Sequence[SuggestionLine] | None
    saves_usd: Decimal | None
    missing: Mapping[Section, str] = field(repr=False)
    notes: Sequence[str] = field(default=(), repr=False)


def read(
    conn: Connection, window: Window, *, slots: Mapping[datetime, Totals], thorough: bool
) -> Sections:
    """Read them, by the slots of the window; with `thorough` all turns of it are looked at."""
    missing: dict[Section, str] = {}
    about = None
    try:
        about = _topics(conn)
        if about is None:
            missing[Section.TOPICS] = (
                "Topics were not looked for yet: the extra analytics finds them."
            )
    except (DataKeyMissing, SealBroken):  # a report is of figures: it needs no key
        missing[Section.TOPICS] = "Words of topics are encrypted, and cannot be opened here."
    drawn = None if thorough else draw(conn, window, slots)
    found, clusters = suggestions.with_behaviours(conn, window, drawn=drawn)
    return Sections(
        feedback=_felt(conn, window),
        topics=about,
        behaviours=[_behaviour(one) for one in clusters],
        suggestions=[_suggestion(one, drawn) for one in found.findings[:_SHOWN]],
        saves_usd=found.estimated_improvement,
        missing=missing,
        notes=() if drawn is None else (_drawn(drawn),),
    )


def _drawn(drawn: Drawn) -> str:
    return (
        f"Behaviour and suggestions are of a sample, one session in {1 / drawn.sessions.share:.0f},"
        " and of the hours in which most went wrong. Sentences give the numbers of the sample;"
        " savings, and turns of each behaviour, are what it stands for. With --thorough, all turns"
        " are looked at."
    )


def _felt(conn: Connection, window: Window) -> Felt | None:
    """Return what was said of replies in the window, and guessed of others; None: neither."""
    now, then = (said.given(conn, _said_in(one)) for one in (window, window.previous()))
    guessed = estimates_in(conn, window)
    if not (now.count or guessed):
        return None
    return Felt(
        rated=now.count,
        score=now.mean,
        good=now.positive,
        bad=now.negative,
        before=then.mean,
        estimated=len(guessed),
        estimate=sum(guessed) / len(guessed) if guessed else None,
    )


def _said_in(window: Window) -> ColumnElement[bool]:
    at = feedback.c.updated_at
    return and_(at >= window.since, at < window.until)


def _topics(conn: Connection) -> list[TopicLine] | None:
    """Return what sessions were about when it was looked for last; None: it never was."""
    if topics.last_run(conn) is None:
        return None
    return [
        TopicLine(terms=one.words, sessions=one.sessions, users=one.users, share=one.share)
        for one in topics.shown(conn)[0][:_SHOWN]
    ]


def _behaviour(one: BehaviourCluster) -> BehaviourLine:
    name, what = _WORDS[one.behaviour]
    return BehaviourLine(
        name=name, what=what, sessions=one.sessions, turns=one.turns, share=one.share
    )


def _suggestion(one: Finding, drawn: Drawn | None = None) -> SuggestionLine:
    gain = one.improvement
    is_money = gain.what == "usd"
    change = ({"model": one.model} if one.model else {}) | dict(one.settings)
    return SuggestionLine(
        title=f"{one.rule.value.replace('_', ' ').capitalize()}: {one.subject}",
        why=f"In the sample: {one.says}" if drawn else one.says,
        saves_usd=Decimal(str(round(gain.amount, 4))) if is_money else None,
        gains=_gains(one),
        confidence=f"Measured: {one.confidence.low:.3g} to {one.confidence.high:.3g} in 95 of 100"
        f" cases, and the bound is {one.threshold:.3g}. What is measured: {one.formula}.",
        setting=", ".join(f"{name} = {value}" for name, value in change.items()),
    )


def _gains(one: Finding) -> str:
    """Return what a change brings in words: `104 fewer messages sent again`."""
    gain = one.improvement
    words = _LESS.get(one.rule, f"{gain.what} less")
    if gain.what != "seconds":
        return f"{gain.amount:,.0f} {words}"
    much = (
        f"{gain.amount / 3600:,.1f} hours"
        if gain.amount >= 7200
        else f"{gain.amount / 60:,.0f} minutes"
    )
    return f"{much} {words}"
