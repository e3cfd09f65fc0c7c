"""Why a turn does not run, in a line for people, with the commands that help."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from turnmill.domain.states import FINAL, TurnState
from turnmill.show.as_typed import as_typed
from turnmill.show.tables import print_outcome
from turnmill.show.wording import clock_text, duration, relative
from turnmill.store.nouns.why import MOST_COUNTED, Cause

if TYPE_CHECKING:
    from turnmill.store.nouns.why import Reason, Why
    from turnmill.store.records import TurnRecord


def obstacles(why: Why) -> list[str]:
    """Return what stands in the way, one thing a line; nothing for a turn that runs or is final."""
    return [
        _WORDS[one.cause](one, why) for one in why.reasons if one.cause not in (_NONE | {Cause.DUE})
    ]


def in_a_line(why: Why) -> str:
    """Return all of it as one sentence."""
    said = "; ".join(_WORDS[one.cause](one, why) for one in why.reasons)
    if why.likely_at is None or {one.cause for one in why.reasons} != {Cause.LANE_BUSY}:
        return said
    return f"{said}; likely to begin {relative(why.likely_at, now=why.now)}"


def as_document(why: Why) -> dict[str, Any]:
    """Return what programs read."""
    return {
        "id": why.turn_id,
        "session_id": why.session_id,
        "state": why.state,
        "waits_for": in_a_line(why),
        "likely_at": why.likely_at,
        "reasons": [
            {
                "cause": one.cause,
                "turn_id": one.turn_id,
                "name": one.name,
                "since": one.since,
                "until": one.until,
                "ahead": one.ahead,
            }
            for one in why.reasons
        ],
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


#: Nothing stands in the way.
_NONE = frozenset({Cause.ENDED, Cause.RUNNING})


def _ended(_: Reason, why: Why) -> str:
    return f"for nothing: it is {why.state}"


def _running(one: Reason, why: Why) -> str:
    whose = "" if one.turn_id == why.turn_id else f"that one, {one.turn_id}, is "
    since = "" if one.since is None else f" for {duration(why.now - one.since)}"
    return f"{whose}running{since}: a worker waits for its provider or its tools"


def _behind(one: Reason, why: Why) -> str:
    head = why.reasons[-1].turn_id
    if one.ahead == 1:
        return f"for turn {head} before it: turnmill turns show {head}"
    return (
        f"for {_many(one.ahead)} turns before it, the first is {head}: turnmill turns show {head}"
    )


def _session_paused(_: Reason, why: Why) -> str:
    return f"its session is paused: turnmill sessions resume {why.session_id}"


def _lane_paused(one: Reason, _: Why) -> str:
    return f"lane {one.name} is paused: turnmill queue resume --lane {one.name}"


def _provider_paused(one: Reason, _: Why) -> str:
    return f"provider {one.name} is paused: turnmill queue resume --provider {one.name}"


def _held(one: Reason, _: Why) -> str:
    return (
        "for a decision, since its request may have been executed:"
        f" turnmill turns release {one.turn_id}  (or cancel)"
    )


def _tool(one: Reason, why: Why) -> str:
    return f"for the output of a tool, {_until(one, why)}"


def _approval(one: Reason, why: Why) -> str:
    return f"for somebody who agrees that a tool is run, {_until(one, why)}"


def _layer(one: Reason, why: Why) -> str:
    return f"for {one.name}: asked again {_when(one, why)}"


def _retry(one: Reason, why: Why) -> str:
    after = f" after {one.name}" if one.name else ""
    return f"for its next attempt{after}, {_when(one, why)}"


def _question(one: Reason, why: Why) -> str:
    return f"its provider is asked what became of it, {_when(one, why)}"


def _background(one: Reason, why: Why) -> str:
    return f"for its provider, which works in the background and is asked again {_when(one, why)}"


def _later(one: Reason, why: Why) -> str:
    return f"{_until(one, why)}, as it was sent for then"


def _lane_busy(one: Reason, why: Why) -> str:
    turns = "1 turn" if one.ahead == 1 else f"{_many(one.ahead)} turns"
    return f"for {turns} of lane {one.name} that were due before it"


def _no_worker(one: Reason, why: Why) -> str:
    since = "" if one.since is None else f" since {relative(one.since, now=why.now)}"
    return f"for a worker{since}: none takes turns of lane {one.name}. turnmill doctor"


def _due(_: Reason, __: Why) -> str:
    return "for nothing: a worker is about to take it"


def _when(one: Reason, why: Why) -> str:
    if one.until is None:
        return "at some time"
    return f"at {clock_text(one.until)} UTC, {relative(one.until, now=why.now)}"


def _until(one: Reason, why: Why) -> str:
    return f"until {_when(one, why).removeprefix('at ')}"


def _many(number: int) -> str:
    return f"{number:,}" if number < MOST_COUNTED else f"{number:,} or more"


_WORDS: Mapping[Cause, Callable[[Reason, Why], str]] = MappingProxyType(
    {
        Cause.ENDED: _ended,
        Cause.RUNNING: _running,
        Cause.BEHIND: _behind,
        Cause.SESSION_PAUSED: _session_paused,
        Cause.LANE_PAUSED: _lane_paused,
        Cause.PROVIDER_PAUSED: _provider_paused,
        Cause.HELD: _held,
        Cause.TOOL: _tool,
        Cause.APPROVAL: _approval,
        Cause.LAYER: _layer,
        Cause.RETRY: _retry,
        Cause.QUESTION: _question,
        Cause.BACKGROUND: _background,
        Cause.LATER: _later,
        Cause.LANE_BUSY: _lane_busy,
        Cause.NO_WORKER: _no_worker,
        Cause.DUE: _due,
    }
)
