"""Why a turn does not run, in a line for people, with the commands that help."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from turnmill.domain.states import FINAL, TurnState
from turnmill.show.as_typed import as_typed
from turnmill.show.tables import fields, print_outcome
from turnmill.show.wording import clock_text, duration, relative
from turnmill.store.nouns.load import MOST_COUNTED
from turnmill.store.nouns.why import Cause

if TYPE_CHECKING:
    from datetime import datetime

    from turnmill.store.nouns.why import Reason, Why
    from turnmill.store.turn_records import TurnRecord


def obstacles(why: Why) -> list[str]:
    """Return what stands in the way, one thing a line; nothing for a turn that runs or is final."""
    return [_said(one, why) for one in why.reasons if one.cause not in _NONE]


def in_a_line(why: Why) -> str:
    """Return all of it as one sentence."""
    said = "; ".join(_said(one, why) for one in why.reasons)
    if why.likely_at is None or not _ESTIMATED & {one.cause for one in why.reasons}:
        return said
    return f"{said}; likely to begin {relative(why.likely_at, now=why.now)}"


def in_a_cell(why: Why | None) -> str:
    """Return it in as few words as a listing has room for; nothing for a turn that is final."""
    if why is None:
        return ""
    cells = [_CELLS[one.cause].format_map(_terms(one, why)) for one in why.reasons[:2]]
    return ": ".join(one for one in cells if one)


def waiting(why: Why | None) -> dict[str, Any]:
    """Return what `show` and listings tell programs of it; None stands for a final turn."""
    ended = why is None or why.reasons[0].cause is Cause.ENDED
    return {
        "waits_for": [] if why is None else obstacles(why),
        "reason": None if ended or why is None else _document(why.reasons[0]),
    }


def as_document(why: Why) -> dict[str, Any]:
    """Return what programs read."""
    return {
        "id": why.turn_id,
        "session_id": why.session_id,
        "state": why.state,
        "waits_for": in_a_line(why),
        "likely_at": why.likely_at,
        "reasons": [{**_document(one), **fields(one, "ahead", "running")} for one in why.reasons],
    }


def print_why(why: Why, *, as_json: bool) -> None:
    """Print the line, or the document."""
    print_outcome(as_typed(in_a_line(why)), as_document(why), as_json=as_json)


def next_steps(turn: TurnRecord) -> list[str]:
    """Return the commands that move the turn from where it stands."""
    if turn.state in (TurnState.FAILED, TurnState.DEAD):
        return [f"turnmill turns retry {turn.id}"]
    if turn.state is TurnState.UNKNOWN:
        return [f"turnmill turns release {turn.id}  (or cancel)"]
    return [] if turn.state in FINAL else [f"turnmill turns cancel {turn.id}"]


#: Of these `turns show` says why, and what to do about it.
_WITHOUT_REPLY = frozenset({TurnState.FAILED, TurnState.DEAD})
#: Nothing stands in the way.
_NONE = frozenset({Cause.ENDED, Cause.RUNNING, Cause.DUE})
#: When these end is estimated; of others it is known, or nobody knows.
_ESTIMATED = frozenset({Cause.LANE_BUSY, Cause.BEHIND})

_WORDS: Mapping[Cause, str] = MappingProxyType(
    {
        Cause.ENDED: "for nothing: it has ended: {state}{see}",
        Cause.RUNNING: "{that_is}running{so_long}: a worker waits for its provider or its tools",
        Cause.BEHIND: "for {before}: turnmill turns show {head}",
        Cause.SESSION_PAUSED: "its session is paused: turnmill sessions resume {session}",
        Cause.LANE_PAUSED: "lane {name} is paused: turnmill queue resume --lane {name}",
        Cause.PROVIDER_PAUSED: "provider {name} is paused: turnmill queue resume --provider {name}",
        Cause.HELD: "for a decision, since its request may have been executed:"
        " turnmill turns release {turn}  (or cancel)",
        Cause.TOOL: "for the output of a tool, until {at}",
        Cause.APPROVAL: "for somebody who agrees that a tool is run, until {at}",
        Cause.ACCOUNT: "the account at {name} is closed until {at}: turnmill accounts open {first}",
        Cause.BREAKER: "the breaker of {name} is open until {at}: turnmill accounts open {first}",
        Cause.LIMIT: "for its place under a limit of {name}, at {at}: turnmill limits ls",
        Cause.BUDGET: "for its budget, which is used up: {budget}. turnmill budget ls",
        Cause.BATCH: "for its batch, which is at its vendor, or paused: turnmill batch ls",
        Cause.KEY: "for a key of what is encrypted, which is missing: looked for again at {at}."
        " turnmill doctor",
        Cause.LAYER: "for {name}: asked again at {at}",
        Cause.RETRY: "for its next attempt{after}, at {at}",
        Cause.QUESTION: "its provider is asked what became of it, at {at}",
        Cause.BACKGROUND: "for its provider, which works in the background and is asked again"
        " at {at}",
        Cause.LATER: "until {at}, as it was sent for then",
        Cause.LANE_BUSY: "for {turns} of lane {name} that {come} before it, while {running} run",
        Cause.NO_WORKER: "for a worker{waited}: none takes turns of lane {name}. turnmill doctor",
        Cause.DUE: "for nothing: a worker is about to take it",
    }
)
_CELLS: Mapping[Cause, str] = MappingProxyType(
    {
        Cause.ENDED: "",
        Cause.RUNNING: "provider{so_long}",
        Cause.BEHIND: "behind {number}",
        Cause.SESSION_PAUSED: "session paused",
        Cause.LANE_PAUSED: "lane paused",
        Cause.PROVIDER_PAUSED: "{name} paused",
        Cause.HELD: "held",
        Cause.TOOL: "tool until {clock}",
        Cause.APPROVAL: "approval until {clock}",
        Cause.ACCOUNT: "account until {clock}",
        Cause.BREAKER: "breaker until {clock}",
        Cause.LIMIT: "limit until {clock}",
        Cause.BUDGET: "{budget_cell}",
        Cause.BATCH: "batch",
        Cause.KEY: "key missing",
        Cause.LAYER: "{name} until {clock}",
        Cause.RETRY: "retry at {clock}",
        Cause.QUESTION: "asked at {clock}",
        Cause.BACKGROUND: "background until {clock}",
        Cause.LATER: "sent for {clock}",
        Cause.LANE_BUSY: "lane busy",
        Cause.NO_WORKER: "no worker",
        Cause.DUE: "due",
    }
)


def _said(one: Reason, why: Why) -> str:
    return _WORDS[one.cause].format_map(_terms(one, why))


def _terms(one: Reason, why: Why) -> Mapping[str, object]:
    """Return what the words of a reason may name."""
    head, is_one = why.reasons[-1].turn_id, one.ahead == 1
    at = "some time" if one.until is None else _moment(one.until, now=why.now)
    clock = "some time" if one.until is None else _clock(one.until, now=why.now)
    return {
        "state": why.state,
        "see": f". turnmill turns show {one.turn_id}" if why.state in _WITHOUT_REPLY else "",
        "session": why.session_id,
        "turn": one.turn_id,
        "head": head,
        "name": one.name,
        "first": one.name.partition(" ")[0],
        "number": _many(one.ahead),
        "running": one.running,
        "turns": "1 turn" if is_one else f"{_many(one.ahead)} turns" if one.ahead else "others",
        "come": "comes" if is_one else "come",
        "before": f"turn {head} before it"
        if is_one
        else f"{_many(one.ahead)} turns before it, the first is {head}",
        "that_is": "" if one.turn_id == why.turn_id else f"that one, {one.turn_id}, is ",
        "after": f" after {one.name}" if one.name else "",
        "so_long": "" if one.since is None else f" for {duration(why.now - one.since)}",
        "waited": "" if one.since is None else f", for {duration(why.now - one.since)}",
        "at": at,
        "clock": clock,
        "budget": _budget(one, at=at),
        "budget_cell": "budget used up" if one.until is None else f"budget until {clock}",
    }


def _budget(one: Reason, *, at: str) -> str:
    """Return whose budget it is and until when; when it is looked at again, where none is named."""
    whose, _, period = one.name.partition(" ")
    if not period:
        return f"looked at again at {at}"
    ends = "until its limit is raised" if one.until is None else f"until {at}"
    return f"that of {_WHOSE.get(whose, 'its tag')}{_PERIODS.get(period, '')}, {ends}"


_WHOSE: Mapping[str, str] = MappingProxyType(
    {"all": "everybody", "user": "its user", "session": "its session", "batch": "its batch"}
)
_PERIODS: Mapping[str, str] = MappingProxyType(
    {"turn": " for a turn", "day": " for a day", "week": " for a week", "month": " for a month"}
)


def _moment(moment: datetime, *, now: datetime) -> str:
    return f"{clock_text(moment)} UTC, {relative(moment, now=now)}"


def _clock(moment: datetime, *, now: datetime) -> str:
    """Return the time of day to the second, with the date where it is not today."""
    return f"{moment:%H:%M:%S}" if moment.date() == now.date() else f"{moment:%m-%d %H:%M}"


def _many(number: int) -> str:
    return f"{number:,}" if number < MOST_COUNTED else f"{number:,} or more"


def _document(one: Reason) -> dict[str, Any]:
    return dict(fields(one, "cause", "turn_id", "name", "since", "until"))
