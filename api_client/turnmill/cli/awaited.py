"""What stands in the way of what a command waits for, in a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnmill.domain.states import UNFINISHED

if TYPE_CHECKING:
    from turnmill import Client, TrialRecord, Turn
    from turnmill.sync.batches import Batch


def what_holds(turn: Turn) -> str | None:
    """Return what a turn waits for; None where it runs, is about to, or has ended."""
    from turnmill.show.why_view import obstacles

    found = "; ".join(obstacles(turn.why()))
    return f"turn {turn.id} waits: {found}" if found else None


def what_stops_batch(client: Client, batch: Batch) -> str | None:
    """Return what a batch waits for: for somebody, an account, or what one of its turns does."""
    counts = batch.counts
    if counts.is_done:
        return None
    if counts.state == "paused":
        because = counts.paused_because or "by hand"
        return f"batch {batch.id} is paused: {because}. turnmill batch resume {batch.id}"
    if counts.state == "submitting":
        return f"batch {batch.id} is not all submitted: submit the file again to go on"
    states = [state for state in UNFINISHED if counts.states.get(state)]
    first = client.turns.list(batch=batch, states=states, limit=1) if states else []
    return what_holds(first[0]) if first else None


def what_stops(client: Client, trial: TrialRecord) -> str | None:
    """Return what a trial waits for: what the batches do that its turns are in."""
    found = client.trials.get(trial)
    for one in (found.judge_batch_id, found.batch_id):
        if one is not None and (held := what_stops_batch(client, client.batches.get(one))):
            return held
    return None
