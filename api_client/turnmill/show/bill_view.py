"""A bill beside what was written down, and prices that have changed, for people and programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from turnmill.domain.dollars import rounded
from turnmill.show.tables import print_json, print_outcome, print_table
from turnmill.show.terminal import say
from turnmill.show.wording import dollars

if TYPE_CHECKING:
    from turnmill.verbs.reconciling import Compared, Reconciliation, Sums
    from turnmill.verbs.repricing import Repricing

_COLUMNS = (
    *("day", "model", "tier", "calls", "billed", "in", "in billed", "cached", "cached billed"),
    *("out", "out billed", "USD", "USD billed", "difference", ""),
)
#: Left out of a narrow terminal, the last one first.
_SPARE = ("cached", "cached billed", "calls", "billed", "in", "in billed", "out", "out billed")


def print_reconciliation(found: Reconciliation, *, as_json: bool) -> None:
    """Print it, with a note where figures here are not certain."""
    if as_json:
        print_json(_document(found))
        return
    print_table(
        _COLUMNS,
        _rows(found.lines),
        title=f"{found.provider}, {found.first} to {found.last}, UTC",
        right=_COLUMNS[3:-1],
        spare=_SPARE,
    )
    differing = sum(not one.agrees for one in found.lines)
    billed = "no costs" if found.bill_usd is None else dollars(found.bill_usd)
    print_outcome(
        f"{differing} of {len(found.lines)} lines differ; here {dollars(found.here_usd)},"
        f" on the bill {billed}",
        {},
        as_json=False,
    )
    if unpriced := sum(one.unpriced for one in found.lines):
        say(f"{unpriced} calls here have no known price and are not in it")
    if estimated := sum(one.estimated for one in found.lines):
        say(f"{estimated} calls here were cut: what they have used is an estimate")


def print_repricing(found: Repricing, *, as_json: bool) -> None:
    """Print what came of it, and what could not be reached."""
    would = "" if found.written else "would be "
    print_outcome(
        f"{found.first} to {found.last}, UTC: {found.changed} of {found.seen} calls"
        f" {would}priced anew, {dollars(found.before_usd)} before, {dollars(found.after_usd)} now",
        asdict(found),
        as_json=as_json,
    )
    for count, what in (
        (found.unknown, "have no known price by now: what they had stays"),
        (found.uncounted, "used tokens that nobody counted: their cost is not known"),
        (found.busy, "were changed by others meanwhile: run it again"),
        (found.unadjusted, "are in no line of their day's report, which stays as it is"),
    ):
        if count:
            say(f"{count} calls {what}")


def _document(found: Reconciliation) -> dict[str, Any]:
    lines = [
        {**asdict(one), "difference_usd": one.difference_usd, "agrees": one.agrees}
        for one in found.lines
    ]
    totals = {"here_usd": found.here_usd, "bill_usd": found.bill_usd, "agrees": found.agrees}
    return {**asdict(found), "lines": lines, **totals}


def _rows(lines: Sequence[Compared]) -> Iterator[tuple[object, ...]]:
    for line in lines:
        yield (
            line.day,
            "all" if line.model is None else line.model or "other",
            "all" if line.tier is None else line.tier,
            *_pair(line, "calls"),
            *_pair(line, "input_tokens"),
            *_pair(line, "cached_tokens"),
            *_pair(line, "output_tokens"),
            *_pair(line, "cost_usd"),
            "" if line.difference_usd is None else f"{rounded(line.difference_usd, digits=6):+f}",
            _judged(line),
        )


def _pair(line: Compared, name: str) -> tuple[str, str]:
    return _figure(line.here, name), _figure(line.bill, name)


def _figure(sums: Sums | None, name: str) -> str:
    value = None if sums is None else getattr(sums, name)
    if value is None:
        return "-"
    return f"{rounded(value, digits=6):f}" if name == "cost_usd" else f"{value:,}"


def _judged(line: Compared) -> str:
    if line.here is None:
        return "not here"
    if line.bill is None:
        return "not on the bill"
    return "" if line.agrees else "differs"
