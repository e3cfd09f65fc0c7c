"""Sessions in which stored turns were asked again: they go when what they are copies of goes."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, CompoundSelect, Connection, and_, delete, or_, select

from turnmill.domain.ids import BatchId, SessionId
from turnmill.store.line.head import lock_sessions
from turnmill.store.schema.batch_tables import batch_lines
from turnmill.store.schema.tables import turns
from turnmill.store.schema.trial_tables import trial_lines, trials

_copy = trial_lines.c


def with_copies(conn: Connection, session_ids: Collection[SessionId]) -> Collection[SessionId]:
    """Return these sessions, and those in which turns of theirs were asked again, locked as well.

    Lines of which nothing was asked yet are removed: what they say goes now. The caller's
    transaction holds the locks of the first ones, and removes all of them.
    """
    mine = _copy.session_id.in_(list(session_ids))
    if conn.execute(select(_copy.line).where(mine).limit(1)).first() is None:
        return session_ids
    copies = copies_of(conn, mine)
    return {*session_ids, *lock_sessions(conn, copies)}


def copies_of(conn: Connection, which: ColumnElement[bool]) -> set[SessionId]:
    """Return the sessions of these lines of trials; what they ask of nobody yet is removed."""
    found = conn.execute(
        select(trials.c.batch_id, trials.c.judge_batch_id, _copy.line)
        .join(trials, trials.c.id == _copy.trial_id)
        .where(which)
    ).all()
    lines: dict[BatchId, list[int]] = {}
    for row in found:
        lines.setdefault(row.batch_id, []).append(row.line)
        if row.judge_batch_id is not None:
            lines.setdefault(row.judge_batch_id, []).extend((2 * row.line - 1, 2 * row.line))
    ids: set[SessionId] = set()
    for batch_id, numbers in lines.items():
        of_turns = and_(turns.c.batch_id == batch_id, turns.c.batch_line.in_(numbers))
        ids |= {SessionId(one) for one in conn.scalars(select(turns.c.session_id).where(of_turns))}
        unasked = and_(
            batch_lines.c.batch_id == batch_id,
            batch_lines.c.line.in_(numbers),
            batch_lines.c.turn_id.is_(None),
        )
        conn.execute(delete(batch_lines).where(unasked))
    return ids


def is_of_trial(batch_id: ColumnElement[object]) -> ColumnElement[bool]:
    """Return whether turns of this batch are a trial's: none of their users has asked for them."""
    mine = or_(trials.c.batch_id == batch_id, trials.c.judge_batch_id == batch_id)
    return select(trials.c.id).where(mine).exists()


def batches_of_trials() -> CompoundSelect[Any]:
    """Select the batches of all trials, and their judges': looked up once, for many turns."""
    judged = select(trials.c.judge_batch_id).where(trials.c.judge_batch_id.is_not(None))
    return select(trials.c.batch_id).union_all(judged)


def is_copy(session_id: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return whether a session was made by a trial: what is said in it nobody has said there."""
    asked = turns.alias("asked")
    return (
        select(asked.c.id)
        .join(
            trials,
            or_(trials.c.batch_id == asked.c.batch_id, trials.c.judge_batch_id == asked.c.batch_id),
        )
        .where(asked.c.session_id == session_id, asked.c.batch_id.is_not(None))
        .exists()
    )
