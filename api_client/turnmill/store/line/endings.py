"""The one door by which turns become final, for all who end them one way or another.

A worker's verdict goes through it in one statement of its own, which is made of the same parts: see
`store.rules`.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, null, update

from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import FINAL, FOR_BATCH, EventKind, TurnState
from turnmill.store.engine import engine_of
from turnmill.store.kept import give_up_work
from turnmill.store.line.head import lengthen_lines, lock_turns, note_failures, shorten_lines
from turnmill.store.records import Moved
from turnmill.store.rules.endings import Happening, in_chunks, write_events
from turnmill.store.rules.happenings import write_session_events
from turnmill.store.rules.wanted import is_wanted
from turnmill.store.schema.tables import turns
from turnmill.store.types import db_now
from turnmill.wire import SETTLED_CHANNEL

#: So many ids stand in a notice, which may have 8,000 bytes.
_TOLD = 200
_FAILED = (TurnState.DEAD, TurnState.FAILED)


def end_turns(conn: Connection, state: TurnState, *which: ColumnElement[bool]) -> Moved:
    """End these turns, none of which runs, as cancelled or expired. See `move_turns`."""
    values = {"state": state, "error_code": state.value, "finished_at": db_now()}
    _, moved = move_turns(conn, values, *which)
    return moved


def move_turns(
    conn: Connection, values: Mapping[str, Any], *which: ColumnElement[bool]
) -> tuple[list[TurnId], Moved]:
    """Move turns, some or all of which become final by it, with everything that follows.

    That is: the totals and the head of their lines, the pause that a failure may bring, what
    vendors are to stop, one event for each ending, and a word to those who wait for it. The
    caller's transaction holds the locks of their sessions.
    """
    lock_turns(conn, *which)
    statement = update(turns).where(*which).values(**values, **_waits_no_more(values["state"]))
    names = ("id", "session_id", "seq", "state", "step", "batch_id")
    rows = conn.execute(statement.returning(*(turns.c[name] for name in names))).all()
    final = sorted((row for row in rows if row.state in FINAL), key=lambda row: row.seq)
    ids = [TurnId(row.id) for row in final]
    write_events(conn, ids)
    tell_ended(conn, ids)
    again = [TurnId(row.id) for row in rows if row.state == TurnState.RETRYING]
    if again and is_wanted(conn, EventKind.RETRYING):
        write_events(conn, again, EventKind.RETRYING)
    failed = Counter(SessionId(row.session_id) for row in final if row.state in _FAILED)
    if failed:
        paused = note_failures(conn, failed)
        write_session_events(conn, paused, EventKind.PAUSED)
    counts = Counter({SessionId(row.session_id): 0 for row in rows})
    counts.update(SessionId(row.session_id) for row in final)
    for some in in_chunks(ids):
        give_up_work(conn, counts, some)
    if stepped := [TurnId(row.id) for row in final if row.step > 1]:
        from turnmill.store.rules.closed_calls import close_calls  # noqa: PLC0415  few call any

        close_calls(conn, stepped)
    if batched := [TurnId(row.id) for row in final if row.batch_id is not None]:
        from turnmill.store.rules.tallies import count_ended  # noqa: PLC0415  few are of a batch

        count_ended(conn, batched)
    return [TurnId(row.id) for row in rows], Moved(len(rows), shorten_lines(conn, counts))


def _waits_no_more(state: Any) -> dict[str, Any]:
    """Return what a turn that becomes final stops saying: what it has waited for, and until when.

    Where it stood at a vendor stays: what is answered there is paid for.
    """
    in_batch = turns.c.waits_for == FOR_BATCH  # of which none is due
    ended = {
        "waits_for": null(),
        "parked_until": null(),
        "available_at": case((in_batch, db_now()), else_=turns.c.available_at),
    }
    if isinstance(state, TurnState):
        return ended if state in FINAL else {}
    is_final = state.in_(FINAL)
    unsaid = ("waits_for", "parked_until")
    return {name: case((~is_final, turns.c[name])) for name in unsaid}


def queue_again(conn: Connection, *which: ColumnElement[bool]) -> Moved:
    """Let failed turns run again in place, all attempts given back: what ended is to end again.

    The caller's transaction holds the locks of their sessions.
    """
    from turnmill.store.line.shared_log import note_retries  # noqa: PLC0415  few run again
    from turnmill.store.rules.figures import mark_slots  # noqa: PLC0415  of few runs again
    from turnmill.store.rules.tallies import count_no_more  # noqa: PLC0415  of few runs again

    mark_slots(conn, *which)
    note_retries(conn, *which)
    count_no_more(conn, *which, runs_again=True)
    statement = update(turns).where(*which).values(_queued_again())
    rows = conn.execute(statement.returning(turns.c.id, turns.c.session_id, turns.c.seq)).all()
    rows = sorted(rows, key=lambda row: row.seq)
    write_events(conn, [TurnId(row.id) for row in rows], Happening.RETRIED)
    counts = Counter(SessionId(row.session_id) for row in rows)
    return Moved(len(rows), lengthen_lines(conn, counts))


def _queued_again() -> dict[str, Any]:
    return {
        "state": TurnState.QUEUED,
        "attempt": 0,
        "lost": 0,
        "available_at": db_now(),
        "native_ref": "",
        "expires_at": None,
        "cancel_requested": False,
        "error_code": None,
        "own_history": None,
        "finished_at": None,
        "target": 0,
        "benched": 0,
        "given_up": 0,
        "answered_by": None,
        "answered_because": None,
    }


def tell_ended(conn: Connection, turn_ids: Collection[TurnId]) -> None:
    """Tell those who wait that these turns have ended, or are gone for callers."""
    ids = [str(one) for one in turn_ids]
    notices = [",".join(ids[start : start + _TOLD]) for start in range(0, len(ids), _TOLD)]
    if notices:
        engine_of(conn).notify(conn, SETTLED_CHANNEL, notices)
