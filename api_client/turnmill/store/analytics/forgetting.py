"""Trials that go: what was asked again after a while, or with the content that it is a copy of."""

from datetime import timedelta

from sqlalchemy import Connection, and_, delete, or_, select

from turnmill.domain.ids import SessionId
from turnmill.store.deletion_records import Gone
from turnmill.store.line.copies import copies_of
from turnmill.store.line.head import lock_sessions
from turnmill.store.line.removing import remove_sessions
from turnmill.store.nouns.holds import not_on_hold
from turnmill.store.schema.tables import sessions, turns
from turnmill.store.schema.trial_tables import trial_lines, trials
from turnmill.store.types import db_asof_after

_line = trial_lines.c


def is_any_open(conn: Connection) -> bool:
    """Tell whether a trial goes on."""
    return conn.execute(select(trials.c.id).where(trials.c.ended_at.is_(None))).first() is not None


def forget_copies(conn: Connection, *, older_than: timedelta, limit: int = 50) -> int:
    """Remove up to `limit` lines of trials with what was asked again in them; return how many.

    Those of trials that ended longer ago, and those of which the first turn has no content any
    more. What a trial has shown stays, as figures. The caller's transaction.
    """
    over = trials.c.ended_at < db_asof_after(-older_than.total_seconds())
    emptied = and_(
        trials.c.ended_at.is_not(None), turns.c.finished_at <= sessions.c.content_gone_until
    )
    found = conn.execute(
        select(_line.trial_id, _line.line, _line.turn_id)
        .join(trials, trials.c.id == _line.trial_id)
        .join(sessions, sessions.c.id == _line.session_id, isouter=True)
        .join(turns, turns.c.id == _line.turn_id, isouter=True)
        .where(or_(over, emptied), or_(sessions.c.id.is_(None), not_on_hold()))
        .order_by(_line.trial_id, _line.line)
        .limit(limit)
    ).all()
    for trial_id in sorted({row.trial_id for row in found}):
        numbers = [row.line for row in found if row.trial_id == trial_id]
        mine = and_(_line.trial_id == trial_id, _line.line.in_(numbers))
        copies = lock_sessions(conn, copies_of(conn, mine))
        remove_sessions(conn, {SessionId(one) for one in copies}, how=Gone.PURGED)
        conn.execute(delete(trial_lines).where(mine))
    return len(found)


def forget_trials(conn: Connection, *, older_than: timedelta, limit: int = 100) -> int:
    """Remove up to `limit` trials that ended longer ago, of which no line is left."""
    left = select(_line.line).where(_line.trial_id == trials.c.id).exists()
    over = trials.c.ended_at < db_asof_after(-older_than.total_seconds())
    some = select(trials.c.id).where(over, ~left).limit(limit)
    return conn.execute(delete(trials).where(trials.c.id.in_(some))).rowcount
