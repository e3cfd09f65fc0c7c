"""A report of usage and cost, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from turnmill.show.tables import print_json, print_table
from turnmill.show.terminal import say
from turnmill.show.wording import known_usd, percent

if TYPE_CHECKING:
    from turnmill.store.analytics.usage import UsageRow
    from turnmill.verbs.analytics.usage import Report

_COLUMNS = (
    "day",
    "provider",
    "model",
    "turns",
    "ok",
    "failed",
    "dead",
    "cancelled",
    "expired",
    "attempts",
    "retries",
    "in",
    "cached",
    "share",
    "out",
    "USD",
)
#: Left out of a narrow terminal, the last one first.
_SPARE = (
    *("provider", "in", "out", "share", "retries", "dead", "attempts", "cached", "expired"),
    "cancelled",
)


def print_report(found: Report, *, as_json: bool) -> None:
    """Print it, with a note where a cost is not all that was spent."""
    if as_json:
        lines = [{**asdict(line), "cached_share": line.cached_share} for line in found.lines]
        print_json({**asdict(found), "lines": lines})
        return
    if not found.lines:
        say(f"no turn ended from {found.first} to {found.last}")
        return
    print_table(
        _COLUMNS,
        _rows(found.lines),
        title=f"{found.first} to {found.last}, UTC",
        right=_COLUMNS[3:],
        spare=_SPARE,
    )
    if any(line.unpriced_attempts for line in found.lines):
        say("+ some attempts have no known price and are not in it")


def _rows(lines: Sequence[UsageRow]) -> Iterator[tuple[object, ...]]:
    for line in lines:
        yield (
            line.day or "all",
            line.provider,
            line.model,
            line.turns,
            line.succeeded,
            line.failed,
            line.dead,
            line.cancelled,
            line.expired,
            line.attempts,
            line.retries,
            f"{line.input_tokens:,}",
            f"{line.cached_tokens:,}",
            percent(line.cached_share),
            f"{line.output_tokens:,}",
            known_usd(line.cost_usd, unpriced=line.unpriced_attempts),
        )
