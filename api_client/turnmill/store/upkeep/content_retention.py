"""Content-only retention: what was said goes when its time is over, and figures stay.

Turn by turn, as they ended. A session in which a turn runs is left for the next look: whoever runs
it has read the history, and is fenced off before any of that goes.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    and_,
    cast,
    func,
    literal,
    null,
    or_,
    select,
    update,
)

from turnmill.domain.bounds import EARLIEST
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import FINAL, SessionStatus, TurnState
from turnmill.store.kept import give_up_all
from turnmill.store.line.attached import release_turns
from turnmill.store.line.head import lock_sessions
from turnmill.store.line.line_keys import forget_line_keys
from turnmill.store.line.topics import forget_topic
from turnmill.store.nouns.holds import not_on_hold
from turnmill.store.rules.accepting import OF_WHAT_IS_GONE
from turnmill.store.schema.batch_tables import batch_lines
from turnmill.store.schema.belongings import BELONGINGS, Belonging
from turnmill.store.schema.compaction_tables import compactions
from turnmill.store.schema.life_tables import user_retention
from turnmill.store.schema.people_tables import notes
from turnmill.store.schema.tables import sessions, turns
from turnmill.store.types import Timestamp, db_after, db_asof_after, db_now

#: Turns whose content goes in one commit.
_TURNS_AT_ONCE = 500
#: States of a head that hold nothing at a vendor which the session's end would take from it.
_AT_REST = (TurnState.QUEUED, TurnState.RETRYING)


class Emptied(NamedTuple):
    """What became of one session."""

    turns: int
    more: bool  #: there are more whose time is over: come again


def sessions_with_old_content(
    conn: Connection,
    *,
    default: timedelta | None,
    after: SessionId | None = None,
    limit: int = 200,
) -> list[SessionId]:
    """Return a page of the sessions that may hold content whose time is over, by their ids.

    `default` is for what neither a session nor its user says. None of these costs next to nothing.
    """
    if default is None and not _anybody_says(conn):
        return []
    over = _first_said() < db_asof_after(-_seconds(default))
    query = _with_users().where(
        not_on_hold(),
        over,
        _seconds(default).is_not(None),
        sessions.c.status != SessionStatus.DELETED,
    )
    if after is not None:
        query = query.where(sessions.c.id > after)
    return [SessionId(one) for one in conn.scalars(query.order_by(sessions.c.id).limit(limit))]


def empty_content(conn: Connection, session_id: SessionId, *, default: timedelta | None) -> Emptied:
    """Take what was said out of up to 500 turns of the session whose time is over.

    The rows stay, with their figures. What the vendor keeps of the session goes too, and its next
    turn begins a thread from what is left.
    """
    if not lock_sessions(conn, [session_id], wait=False):
        return Emptied(0, more=False)
    row = conn.execute(
        _with_users(
            sessions.c.content_gone_until,
            sessions.c.content_from,
            (~not_on_hold()).label("held"),
            db_after(-_seconds(default)).label("until"),
        ).where(sessions.c.id == session_id)
    ).one_or_none()
    if row is None or row.until is None or row.held or _runs(conn, session_id):
        return Emptied(0, more=False)
    until, more = _bounded(conn, session_id, since=row.content_gone_until, until=row.until)
    found = _ended(session_id, since=row.content_gone_until, until=until)
    ended = conn.scalars(select(turns.c.id).where(found)).all()
    if ended:
        _empty(conn, session_id, ended)
    _empty_notes(conn, session_id, until=until)
    rests = not (ended or _owes(row)) or _let_go(conn, session_id)
    _note(conn, session_id, until=until, rests=rests, more=more)
    return Emptied(len(ended), more=more)


def _owes(row: Any) -> bool:
    """Tell whether the vendor still keeps what is gone here: work there was waited for."""
    gone, since = row.content_gone_until, row.content_from
    return gone is not None and (since is None or since <= gone)


def _anybody_says(conn: Connection) -> bool:
    of_session = select(sessions.c.id).where(sessions.c.content_seconds.is_not(None))
    of_user = select(user_retention.c.user_id)
    return bool(conn.scalar(select(or_(of_session.exists(), of_user.exists()))))


def _with_users(*columns: Any) -> Any:
    users = user_retention.c.user_id == sessions.c.user_id
    return select(sessions.c.id, *columns).outerjoin_from(sessions, user_retention, users)


def _seconds(default: timedelta | None) -> ColumnElement[Any]:
    """Return for how long content is kept: as the session says, else its user, else everybody."""
    whole = literal(None if default is None else int(default.total_seconds()), BigInteger)
    return func.coalesce(
        sessions.c.content_seconds, user_retention.c.content_seconds, cast(whole, BigInteger)
    )


def _first_said() -> ColumnElement[Any]:
    return func.coalesce(sessions.c.content_from, sessions.c.created_at)


def _runs(conn: Connection, session_id: SessionId) -> bool:
    running = select(turns.c.id).where(
        turns.c.session_id == session_id, turns.c.state == TurnState.RUNNING
    )
    return conn.execute(running).first() is not None


def _ended(
    session_id: SessionId, *, since: datetime | None, until: datetime
) -> ColumnElement[bool]:
    return and_(
        turns.c.session_id == session_id,
        turns.c.state.in_(FINAL),
        turns.c.finished_at > (since or EARLIEST),
        turns.c.finished_at <= until,
    )


def _bounded(
    conn: Connection, session_id: SessionId, *, since: datetime | None, until: datetime
) -> tuple[datetime, bool]:
    """Return until when turns are taken now, and whether there are more."""
    last: datetime | None = conn.scalar(
        select(turns.c.finished_at)
        .where(_ended(session_id, since=since, until=until))
        .order_by(turns.c.finished_at)
        .offset(_TURNS_AT_ONCE - 1)
        .limit(1)
    )
    return (until, False) if last is None else (last, True)


def _empty(conn: Connection, session_id: SessionId, ended: Sequence[Any]) -> None:
    for one in BELONGINGS:
        if one.turn is not None and one.content:
            conn.execute(update(one.table).where(one.turn.in_(ended)).values(_nothing(one)))
    _forget_hashes(conn, ended)
    release_turns(conn, [TurnId(one) for one in ended])
    forget_topic(conn, [session_id])
    first = select(func.min(turns.c.seq)).where(turns.c.id.in_(ended)).scalar_subquery()
    told = and_(compactions.c.session_id == session_id, compactions.c.up_to_seq >= first)
    conn.execute(update(compactions).where(told).values(summary=null()))


def _forget_hashes(conn: Connection, ended: Sequence[Any]) -> None:
    """Take out what tells of a few words what they were to whoever tries all that may have been.

    Keys of turns stay, so that what is sent again comes to no other turn.
    """
    keyed = and_(turns.c.id.in_(ended), turns.c.idempotency_key.is_not(None))
    conn.execute(update(turns).where(keyed).values(idempotency_hash=OF_WHAT_IS_GONE))
    for turn in (batch_lines.c.turn_id, batch_lines.c.reused_from):
        forget_line_keys(conn, turn.in_(ended))


def _empty_notes(conn: Connection, session_id: SessionId, *, until: datetime) -> None:
    """Take out what was said to people alone, which is of no turn: it goes by its own age."""
    old = and_(notes.c.session_id == session_id, notes.c.created_at <= until)
    conn.execute(update(notes).where(old).values(content=[]))


def _nothing(one: Belonging) -> dict[str, Any]:
    return {name: null() if value is None else value for name, value in one.content.items()}


def _let_go(conn: Connection, session_id: SessionId) -> bool:
    """Give up what the vendor keeps of the session; False where work there is waited for."""
    head = conn.scalar(
        select(turns.c.state)
        .join(sessions, sessions.c.head_turn_id == turns.c.id)
        .where(sessions.c.id == session_id)
    )
    if head is not None and head not in _AT_REST:
        return False
    give_up_all(conn, [session_id])
    return True


def _note(
    conn: Connection, session_id: SessionId, *, until: datetime, rests: bool, more: bool
) -> None:
    """Write down until when all is gone, and from when on there may be something."""
    values: dict[str, Any] = {"content_gone_until": until}
    if rests and not more:
        left = select(func.min(turns.c.finished_at, type_=Timestamp)).where(
            turns.c.session_id == session_id,
            turns.c.state.in_(FINAL),
            turns.c.finished_at > until,
        )
        noted = select(func.min(notes.c.created_at, type_=Timestamp)).where(
            notes.c.session_id == session_id, notes.c.created_at > until
        )
        firsts = [one for one in (conn.scalar(left), conn.scalar(noted)) if one is not None]
        values["content_from"] = min(firsts, default=None) or db_now()
    conn.execute(update(sessions).where(sessions.c.id == session_id).values(values))
