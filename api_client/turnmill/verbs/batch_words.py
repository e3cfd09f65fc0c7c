"""What is said of a batch beside how far it is, to whoever watches it."""

from turnmill.domain.batches import BatchState
from turnmill.domain.dollars import rounded
from turnmill.store.batch_records import BatchCounts

_MOST_CODES = 3


def said_of(counts: BatchCounts) -> list[str]:
    """Return what is said of a batch besides how far it is: of ids and content, nothing."""
    said = []
    if counts.cost_usd or counts.unpriced:
        unknown = f" and {counts.unpriced:,} of unknown cost" if counts.unpriced else ""
        said.append(f"${rounded(counts.cost_usd, digits=4):,f}{unknown}")
    if counts.reused:
        said.append(f"{counts.reused:,} reused")
    if counts.waiting_for_budget:
        said.append(f"{counts.waiting_for_budget:,} waiting for a budget")
    codes = [f"{count:,} {code}" for code, count in counts.codes.items()]
    if codes:
        more = len(codes) - _MOST_CODES
        said.append(", ".join(codes[:_MOST_CODES]) + (f", {more} more codes" if more > 0 else ""))
    if counts.shards:
        shards = ", ".join(f"{count} {state}" for state, count in sorted(counts.shards.items()))
        said.append(f"shards: {shards}")
    if counts.held_by is not None and counts.held_until is not None:
        provider = counts.held_by.partition(":")[0]
        said.append(
            f"its account is closed until {counts.held_until.astimezone():%Y-%m-%d %H:%M:%S}"
            f" ({counts.held_by}): turnmill accounts open {provider}"
        )
    if counts.state is BatchState.PAUSED:
        said.append(f"paused: {counts.paused_because or 'by hand'}")
    return said
