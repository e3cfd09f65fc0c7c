"""The check of locks: whether somebody's transaction holds up everybody else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from turnmill.cli.doctor.findings import Examination, Finding, Findings, ok, skipped, wrong

if TYPE_CHECKING:
    from turnmill.store.upkeep.holders import Holder

#: Whoever holds a lock for as long is told of: what goes by quickly is nobody's fault.
_LONG_SECONDS = 1.0
_MOST_TOLD = 5


def check_locks(examination: Examination) -> Findings:
    """Whether anybody holds tables, or rows for which others wait, for longer than a moment."""
    if examination.database is None:
        yield skipped("the database cannot be used")
        return
    found = _holders(examination)
    if found:
        time.sleep(_LONG_SECONDS)
        later = {(one.pid, one.transaction) for one in _holders(examination)}
        found = [one for one in found if (one.pid, one.transaction) in later]
    yield from (_held(one) for one in found[:_MOST_TOLD])
    if not found:
        yield ok("nobody holds up others")


def _holders(examination: Examination) -> list[Holder]:
    from turnmill.store.upkeep.holders import holders

    assert examination.database is not None
    with examination.database.begin() as conn:
        return holders(conn, examination.database.schema)


def _held(one: Holder) -> Finding:
    what = f"the table {one.table}" if one.table else "rows for which others wait"
    program = f", {one.program}" if one.program else ""
    return wrong(
        f"a transaction of role {one.role}{program}, holds {what}: process {one.pid} of the server",
        f"have it commit or roll back; or, as that role: SELECT pg_terminate_backend({one.pid})",
        code="lock_held",
    )
