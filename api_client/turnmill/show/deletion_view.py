"""What a deletion, or an import, has come to: for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from turnmill.show.tables import fields, print_json
from turnmill.show.terminal import on_one_line, tell
from turnmill.show.wording import count, moment_text

if TYPE_CHECKING:
    from turnmill.store.deletion_records import DeletionReport, ErasureReport, Pending

_PENDING = ("what", "count", "provider", "due_at", "tries", "error_code")
_IMPOSSIBLE = ("what", "why", "provider", "ref")


class Imported(Protocol):
    """What an import has come to."""

    lines: int
    made: int
    known: int
    left_out: int


def print_deletion(report: DeletionReport | ErasureReport, *, as_json: bool) -> None:
    """Print what went, what is left for now, and what stays."""
    if as_json:
        print_json(as_document(report))
        return
    for line in _lines(report):
        tell(on_one_line(line))


def as_document(report: DeletionReport | ErasureReport) -> dict[str, Any]:
    """Return what programs read."""
    return {
        **_whose(report),
        "deleted": not _waits(report),
        "how": report.how,
        "at": report.at,
        "rows": dict(report.rows),
        "pending": [fields(one, *_PENDING) for one in report.pending],
        "impossible": [fields(one, *_IMPOSSIBLE) for one in report.impossible],
        "done": report.done,
        "backups": fields(report.backups, "state", "until"),
    }


def print_imported(told: Imported, *, as_json: bool) -> None:
    """Print how many sessions were made of how many lines."""
    if as_json:
        print_json(fields(told, "lines", "made", "known", "left_out"))
        return
    made, lines = count(told.made, "session"), count(told.lines, "line")
    tell(f"{made} made of {lines}, {told.known} there already")
    if told.left_out:
        tell(f"left out: {count(told.left_out, 'last message')} that nobody has answered")


def _lines(report: DeletionReport | ErasureReport) -> Iterator[str]:
    (whose,) = _whose(report).values()
    yield f"{whose}  is to be {report.how}" if _waits(report) else f"{whose}  {report.how}"
    if report.rows:
        yield "rows: " + ", ".join(f"{count} {name}" for name, count in report.rows.items())
    for one in report.pending:
        yield "pending: " + _pending(one)
    for left in report.impossible:
        where = f" at {left.provider}" if left.provider else ""
        yield f"stays: {left.what} {left.ref or ''}{where}: {left.why}"
    yield f"backups: {report.backups}"
    if _waits(report):
        yield f"it can be taken back until then: turnmill users withdraw {whose}"
    yield "done" if report.done else f"how far it is: turnmill {_asks(report)}"


def _waits(report: DeletionReport | ErasureReport) -> bool:
    from turnmill.store.deletion_records import ErasureReport

    return isinstance(report, ErasureReport) and report.waits


def _whose(report: DeletionReport | ErasureReport) -> dict[str, Any]:
    from turnmill.store.deletion_records import ErasureReport

    if isinstance(report, ErasureReport):
        return {"user_id": report.user_id}
    return {"id": report.session_id}


def _asks(report: DeletionReport | ErasureReport) -> str:
    ((kind, whose),) = _whose(report).items()
    return f"users erasure {whose}" if kind == "user_id" else f"sessions deletion {whose}"


def _pending(one: Pending) -> str:
    where = f" at {one.provider}" if one.provider else ""
    when = f", at the latest {moment_text(one.due_at)}" if one.due_at else ""
    why = f" ({one.error_code} after {one.tries} tries)" if one.error_code else ""
    return f"{one.count} {one.what}{where}{when}{why}"
