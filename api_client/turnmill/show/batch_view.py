"""A batch for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turnmill.show.as_typed import as_typed
from turnmill.show.listing import Listing
from turnmill.show.tables import fields, print_json
from turnmill.show.terminal import on_one_line, say, tell

if TYPE_CHECKING:
    from turnmill.store.nouns.batches import BatchCounts
    from turnmill.sync.batches import Batch


def as_document(batch: Batch) -> dict[str, Any]:
    """Return what its row says; `status` has what became of its turns too."""
    return dict(fields(batch.record, "id", "name", "total", "created_at", "cancelled_at"))


def print_batch(batch: Batch, counts: BatchCounts, *, as_json: bool) -> None:
    """Print how many turns are in which state, and what comes next."""
    states = {state.value: count for state, count in counts.states.items()}
    if as_json:
        document = as_document(batch) | {"total": counts.total}
        print_json(document | {"done": counts.is_done, "states": states})
        return
    tell(f"batch {batch.id} ({on_one_line(batch.name)})")
    parts = ", ".join(f"{count} {state}" for state, count in states.items()) or "no turns"
    tell(f"{counts.accepted} turns: {parts}")
    if not counts.closed:
        say("not all lines were submitted: submit the file again to go on")
    elif not counts.is_done:
        say(as_typed(f"next: turnmill batch watch {batch.id}"))
    else:
        say(as_typed(f"next: turnmill batch results {batch.id} -o results.jsonl"))


def _row(batch: Batch) -> tuple[object, ...]:
    one = batch.record
    return (one.id, one.name, one.total, f"{one.created_at:%Y-%m-%d %H:%M}")


BATCHES: Listing[Batch] = Listing(
    columns=("id", "name", "turns", "created"),
    row=_row,
    document=as_document,
    numbers=("turns",),
    spare=("created",),
)
