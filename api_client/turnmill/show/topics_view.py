"""Topics, behaviours and suggestions, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from turnmill.domain.dollars import rounded
from turnmill.show.listing import Listing, print_listing
from turnmill.show.tables import fields, print_json, print_table
from turnmill.show.terminal import say, tell
from turnmill.show.wording import moment_text, percent

if TYPE_CHECKING:
    from turnmill.domain.analytics.suggesting.findings import Finding, Improvement, Suggestion
    from turnmill.store.analytics.behaviours import BehaviourCluster
    from turnmill.verbs.analytics.topics import Topics

_COLUMNS = ("topic", "words", "sessions", "users", "share", "turns", "failed", "USD", "")
_SPARE = ("turns", "failed", "USD", "users")


def print_topics(found: Topics, *, as_json: bool) -> None:
    """Print what people talk about, and of what it was found."""
    if as_json:
        print_json({**asdict(found), "topics": [asdict(one) for one in found.topics]})
        return
    if found.topics:
        rows = (
            (
                one.id,
                ", ".join(one.words),
                one.sessions,
                one.users,
                percent(one.share),
                one.turns,
                one.failed,
                f"{rounded(one.cost_usd, digits=4):f}",
                "new" if one.is_new else "",
            )
            for one in found.topics
        )
        print_table(_COLUMNS, rows, right=(*_COLUMNS[:1], *_COLUMNS[2:-1]), spare=_SPARE, cut=True)
    if found.because is not None:
        say(f"no topics: {found.because}")
    if found.as_of is not None:
        tell(
            f"found {moment_text(found.as_of)} in {found.sampled} of {found.sessions} sessions"
            f" of {found.users} users"
        )
    if found.not_shown:
        tell(f"{found.not_shown} sessions are of topics that fewer than five users talk about")
    if found.unreadable:
        say(f"{found.unreadable} sessions could not be read: no key for them is there")


def _behaviour(one: BehaviourCluster) -> tuple[object, ...]:
    return (
        one.behaviour.value,
        one.turns,
        percent(one.share),
        one.sessions,
        one.users,
        f"{rounded(one.cost_usd, digits=4):f}",
        one.examples[0] if one.examples else "",
    )


BEHAVIOURS: Listing[BehaviourCluster] = Listing(
    columns=("behaviour", "turns", "share", "sessions", "users", "USD", "for example"),
    row=_behaviour,
    document=lambda one: fields(one, *one.__dataclass_fields__),
    numbers=("turns", "share", "sessions", "users", "USD"),
    spare=("users", "USD"),
)


def print_behaviours(found: Sequence[BehaviourCluster], *, as_json: bool) -> None:
    """Print how conversations go wrong."""
    print_listing(found, BEHAVIOURS, as_json=as_json)
    if not found:
        say("no turn went wrong in a way that rows tell")
    elif not as_json:
        _say_of_what(found[0].looked_at)


def print_suggestion(found: Suggestion, *, as_json: bool, evidence: bool) -> None:
    """Print what could be done better, what it may bring, and what says so."""
    if as_json:
        print_json(_document(found))
        return
    _say_of_what(found.looked_at)
    if not found.findings:
        say("nothing is suggested: no rule's threshold is passed, or there are too few turns")
        return
    for one in found.findings:
        tell(f"{one.rule.value}: {one.subject}")
        for line in [*_lines(one), *(_shown(one) if evidence else ())]:
            tell(f"    {line}")
    if found.estimated_improvement is not None:
        saved = rounded(found.estimated_improvement, digits=2)
        tell(f"in all: about {saved:f} dollars in a span as long")


def _say_of_what(looked_at: float) -> None:
    if looked_at < 1:
        say(f"one session in {1 / looked_at:.0f} was looked at; --thorough looks at all")


def _lines(one: Finding) -> Iterator[str]:
    yield one.says
    yield f"may bring {_amount(one.improvement)}; {_sure(one)}"
    if one.model is not None:
        yield f"model: {one.model}"
    for name, value in one.settings.items():
        yield f"setting: {name}={value}"


def _shown(one: Finding) -> Iterator[str]:
    yield f"formula: {one.formula}"
    for row in one.evidence:
        yield ", ".join(f"{name} {value}" for name, value in row.items())


def _document(found: Suggestion) -> dict[str, Any]:
    def told(one: Finding) -> dict[str, Any]:
        names = ("rule", "subject", "target", "says", "formula", "threshold", "evidence")
        return {
            **fields(one, *names, "settings", "model"),
            "confidence": one.confidence._asdict(),
            "improvement": asdict(one.improvement),
        }

    names = [name for name in found.__dataclass_fields__ if name != "findings"]
    return {**fields(found, *names), "findings": [told(one) for one in found.findings]}


def _amount(one: Improvement) -> str:
    unit = {"usd": "dollars"}.get(one.what, one.what)

    def figure(value: float) -> str:
        return f"{rounded(value, digits=2):,f}" if one.what == "usd" else f"{value:,.0f}"

    middle = f"{figure(one.amount)} {unit}"
    return middle if one.low == one.high else f"{middle} ({figure(one.low)} to {figure(one.high)})"


def _sure(one: Finding) -> str:
    low, high = one.confidence
    if low == high:
        return f"measured {low:,.3g}, threshold {one.threshold:,.3g}"
    return f"measured {low:,.3g} to {high:,.3g} (95 %), threshold {one.threshold:,.3g}"
