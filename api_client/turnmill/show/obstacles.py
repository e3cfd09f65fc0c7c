"""Why a turn does not run, and what can be done: each line names a command."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from turnmill.domain.states import (
    BETWEEN_STEPS,
    FINAL,
    FOR_APPROVAL,
    FOR_TOOL,
    OnAmbiguous,
    SessionStatus,
    TurnState,
)
from turnmill.show.wording import clock_text, relative

if TYPE_CHECKING:
    from turnmill.store.nouns.tool_calls import ToolCallRecord
    from turnmill.store.records import SessionRecord, TurnRecord
    from turnmill.sync.client import Client

_ANSWER = {
    FOR_TOOL: "turnmill tools submit {turn} {call} --output TEXT",
    FOR_APPROVAL: "turnmill tools approve {turn} {call}  (or reject)",
}
#: A turn that could run for longer than this should have been taken by a worker.
_SOON = timedelta(seconds=3)


def obstacles(
    client: Client,
    turn: TurnRecord,
    session: SessionRecord,
    *,
    calls: Sequence[ToolCallRecord] = (),
    now: datetime,
) -> list[str]:
    """Return what stands in the way of a turn that neither runs nor is final."""
    if turn.state in FINAL or turn.state is TurnState.RUNNING:
        return []
    found = []
    if session.head_turn_id is not None and session.head_turn_id != turn.id:
        head = session.head_turn_id
        found.append(f"for turn {head} before it: turnmill turns show {head}")
    if session.status is SessionStatus.PAUSED:
        found.append(f"its session is paused: turnmill sessions resume {session.id}")
    found += _brakes(client, turn, session)
    if turn.state is TurnState.UNKNOWN and session.on_ambiguous is OnAmbiguous.HOLD:
        found.append("for a decision: its request may have been executed")
    found += [_asked(one, now=now) for one in calls if one.waits_for]
    if turn.waits_for and turn.waits_for not in BETWEEN_STEPS and turn.available_at > now:
        found.append(f"for {turn.waits_for}: asked again {relative(turn.available_at, now=now)}")
    return found or _due(turn, now=now)


def _asked(call: ToolCallRecord, *, now: datetime) -> str:
    what = "approval of" if call.waits_for == FOR_APPROVAL else "the output of"
    until = "" if call.expires_at is None else f", until {_moment(call.expires_at, now=now)}"
    return f"for {what} {call.call_id}, a call of {call.tool}{until}"


def next_steps(turn: TurnRecord, calls: Sequence[ToolCallRecord] = ()) -> list[str]:
    """Return the commands that move the turn from where it stands."""
    if turn.state in (TurnState.FAILED, TurnState.DEAD):
        return [f"turnmill turns retry {turn.id}"]
    if turn.state is TurnState.UNKNOWN:
        return [f"turnmill turns release {turn.id}  (or cancel)"]
    if turn.state not in FINAL:
        asked = [
            _ANSWER[one.waits_for].format(turn=turn.id, call=one.call_id)
            for one in calls
            if one.waits_for
        ]
        return [*asked, f"turnmill turns cancel {turn.id}"]
    return []


def _brakes(client: Client, turn: TurnRecord, session: SessionRecord) -> list[str]:
    paused = client.lanes.paused()
    found = []
    if turn.lane in paused.lanes:
        found.append(f"lane {turn.lane} is paused: turnmill queue resume --lane {turn.lane}")
    if session.provider in paused.providers:
        name = session.provider
        found.append(f"provider {name} is paused: turnmill queue resume --provider {name}")
    return found


def _moment(moment: datetime, *, now: datetime) -> str:
    return f"{clock_text(moment)} UTC, {relative(moment, now=now)}"


def _due(turn: TurnRecord, *, now: datetime) -> list[str]:
    when = _moment(turn.available_at, now=now)
    if turn.available_at > now:
        return [f"until {when}"]
    if now - turn.available_at > _SOON:
        return [f"for a worker since {when}: does one run? turnmill doctor"]
    return []
