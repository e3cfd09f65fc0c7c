"""Why a turn does not run, and what can be done: each line names a command."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from turnmill.domain.states import FINAL, OnAmbiguous, SessionStatus, TurnState
from turnmill.show.wording import clock_text, relative

if TYPE_CHECKING:
    from turnmill.store.records import SessionRecord, TurnRecord
    from turnmill.sync.client import Client

#: A turn that could run for longer than this should have been taken by a worker.
_SOON = timedelta(seconds=3)


def obstacles(
    client: Client, turn: TurnRecord, session: SessionRecord, *, now: datetime
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
    if turn.waits_for and turn.available_at > now:
        found.append(f"for {turn.waits_for}: asked again {relative(turn.available_at, now=now)}")
    return found or _due(turn, now=now)


def next_steps(turn: TurnRecord) -> list[str]:
    """Return the commands that move the turn from where it stands."""
    if turn.state in (TurnState.FAILED, TurnState.DEAD):
        return [f"turnmill turns retry {turn.id}"]
    if turn.state is TurnState.UNKNOWN:
        return [f"turnmill turns release {turn.id}  (or cancel)"]
    return [] if turn.state in FINAL else [f"turnmill turns cancel {turn.id}"]


def _brakes(client: Client, turn: TurnRecord, session: SessionRecord) -> list[str]:
    paused = client.lanes.paused()
    found = []
    if turn.lane in paused.lanes:
        found.append(f"lane {turn.lane} is paused: turnmill queue resume --lane {turn.lane}")
    if session.provider in paused.providers:
        name = session.provider
        found.append(f"provider {name} is paused: turnmill queue resume --provider {name}")
    return found


def _due(turn: TurnRecord, *, now: datetime) -> list[str]:
    when = f"{clock_text(turn.available_at)} UTC, {relative(turn.available_at, now=now)}"
    if turn.available_at > now:
        return [f"until {when}"]
    if now - turn.available_at > _SOON:
        return [f"for a worker since {when}: does one run? turnmill doctor"]
    return []
