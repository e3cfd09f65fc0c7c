"""Checks of who was erased: whether that is over, and whether a restored backup knows of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from turnmill.cli.doctor.findings import Examination, Findings, ok, wrong
from turnmill.show.wording import count

#: Upkeep has gone on with it several times by then.
_LATE = timedelta(hours=1)


def check_erasures(examination: Examination) -> Findings:
    """Erasures that are not over, and users who are back since a backup was restored."""
    from turnmill.domain.states import ErasureState
    from turnmill.verbs.users.erasing import Erasing

    if examination.database is None:
        return
    erasing = Erasing(examination.database, examination.settings)
    known = list(erasing.known())
    late = [one for one in known if one.state is ErasureState.ERASING and _is_late(one.begun_at)]
    if late:
        yield wrong(
            f"{count(len(late), 'erasure')} began over an hour ago, and cannot be finished",
            "beat, and a worker that takes turnmill.upkeep; the key store and the file store have"
            " to be reached; `turnmill users erasure USER` says what is left",
            code="erasure_stuck",
        )
    back = erasing.back()
    if back:
        yield wrong(
            f"{count(len(back), 'user')} who was erased is back: a backup was restored",
            "turnmill users replay-erasures",
            code="erasures_to_replay",
        )
    if not (late or back):
        yield ok(f"{count(len(known), 'erasure')}, and nobody is back")


def _is_late(moment: datetime | None) -> bool:
    return moment is not None and datetime.now(UTC) - moment > _LATE
