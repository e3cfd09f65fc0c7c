"""A batch for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turnmill.domain.batches import BatchMode
from turnmill.domain.dollars import rounded
from turnmill.show.as_typed import as_typed
from turnmill.show.listing import Listing
from turnmill.show.tables import fields, print_json, print_table
from turnmill.show.terminal import on_one_line, say, tell
from turnmill.show.wording import count
from turnmill.verbs.batch_words import said_of

if TYPE_CHECKING:
    from turnmill.domain.batch_estimates import BatchEstimate, ModeEstimate
    from turnmill.store.batch_records import BatchCounts
    from turnmill.sync.batches import Batch


def as_document(batch: Batch) -> dict[str, Any]:
    """Return what its row says; `status` has what became of its turns too."""
    names = ("id", "name", "state", "mode", "mode_because", "total", "created_at", "cancelled_at")
    return dict(fields(batch.record, *names))


def print_batch(batch: Batch, counts: BatchCounts, *, as_json: bool) -> None:
    """Print how many turns are in which state, and what comes next."""
    states = {state.value: count for state, count in counts.states.items()}
    if as_json:
        document = as_document(batch) | _far(counts)
        print_json(document | {"done": counts.is_done, "states": states})
        return
    tell(f"batch {batch.id} ({on_one_line(batch.name)}): {counts.state}")
    if batch.record.mode_because:
        tell(f"{batch.record.mode}: {batch.record.mode_because}")
    beside = {"not begun": counts.staged, "reused": counts.reused, "dropped": counts.dropped}
    parts = [f"{many:,} {what}" for what, many in (states | beside).items() if many]
    tell(f"{count(counts.accepted, 'line')}: {', '.join(parts) or 'no turns'}")
    for said in said_of(counts):
        tell(said)
    if counts.state == "paused":
        say(as_typed(f"next: turnmill batch resume {batch.id}"))
    elif not counts.closed:
        say("not all lines were submitted: submit the file again to go on")
    elif not counts.is_done:
        say(as_typed(f"next: turnmill batch watch {batch.id}"))
    else:
        say(as_typed(f"next: turnmill batch results {batch.id} -o results.jsonl"))


def _far(counts: BatchCounts) -> dict[str, Any]:
    names = ("total", "state", "paused_because", "staged", "reused", "dropped", "codes")
    held = ("waiting_for_budget", "held_by", "held_until")
    sums = ("cost_usd", "unpriced", "input_tokens", "output_tokens")
    return dict(fields(counts, *names, *sums, *held))


def print_estimate(estimate: BatchEstimate, *, as_json: bool) -> None:
    """Print what a batch file would take, and cost in each mode."""
    names = ("lines", "turns", "input_tokens", "output_tokens", "unknown")
    if as_json:
        modes = {mode.value: _mode(one) for mode, one in estimate.modes.items()}
        print_json(dict(fields(estimate, *names)) | {"modes": modes})
        return
    tell(
        f"{count(estimate.lines, 'line')}, {count(estimate.turns, 'turn')}:"
        f" about {count(estimate.input_tokens, 'token')} in,"
        f" {estimate.output_tokens:,} out"
    )
    print_table(_OF_MODES, map(_mode_row, estimate.modes.values()), right=("cost", "at most"))
    if estimate.unknown:
        say(f"nobody knows what {count(estimate.unknown, 'line')} will cost, and so what all will")


def _mode(one: ModeEstimate) -> dict[str, Any]:
    seconds = None if one.takes is None else one.takes.total_seconds()
    return dict(fields(one, "cost_usd", "bound_usd")) | {"takes_seconds": seconds}


_OF_MODES = ("mode", "cost", "at most", "takes")


def _mode_row(one: ModeEstimate) -> tuple[object, ...]:
    takes = "no limit is known" if one.takes is None else f"about {one.takes}".partition(".")[0]
    if one.mode is BatchMode.NATIVE:
        takes = "up to a day"
    money = [
        "n/a" if usd is None else f"{rounded(usd, digits=4):f}"
        for usd in (one.cost_usd, one.bound_usd)
    ]
    return (one.mode.value, *money, takes)


def _row(batch: Batch) -> tuple[object, ...]:
    one = batch.record
    state = f"{one.state}: {one.paused_because}" if one.paused_because else f"{one.state}"
    if one.waiting_for_budget:
        state += f", {one.waiting_for_budget:,} await budget"
    return (one.id, one.name, state, one.total, f"{one.created_at:%Y-%m-%d %H:%M}")


def _listed(batch: Batch) -> dict[str, Any]:
    return as_document(batch) | dict(fields(batch.record, "waiting_for_budget"))


BATCHES: Listing[Batch] = Listing(
    columns=("id", "name", "state", "lines", "created"),
    row=_row,
    document=_listed,
    numbers=("lines",),
    spare=("state", "lines", "created"),
)
