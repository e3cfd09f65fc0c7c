"""What goes with a user, in pieces: sessions, words in those of others, and what else names him."""

from collections import Counter
from collections.abc import Collection
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, null, or_, select, update

from turnmill.domain.ids import SessionId, TurnId, hash_of_user
from turnmill.domain.states import EventKind, SessionStatus, TurnState
from turnmill.store.kept import give_up_all
from turnmill.store.line.endings import tell_ended
from turnmill.store.line.head import lock_sessions, skipping_busy
from turnmill.store.line.redacting import redact_turns
from turnmill.store.line.removing import hide_sessions, remove_sessions
from turnmill.store.line.topics import lock_topics, topics_of
from turnmill.store.nouns.budgets import nobodys
from turnmill.store.nouns.erasures import NAMELESS, add_rows
from turnmill.store.nouns.event_log import forget_passed
from turnmill.store.nouns.sessions import cancel_open
from turnmill.store.nouns.users import NAMING
from turnmill.store.rules.happenings import write_session_events
from turnmill.store.schema.belongings import Belonging
from turnmill.store.schema.budget_tables import budgets
from turnmill.store.schema.event_tables import events
from turnmill.store.schema.file_tables import attachments, file_usage
from turnmill.store.schema.hook_tables import deliveries
from turnmill.store.schema.life_tables import tombstones
from turnmill.store.schema.people_tables import turn_senders
from turnmill.store.schema.tables import batches, sessions, turns
from turnmill.store.types import db_asof_after

#: Tables of those that have a procedure of their own.
_WITH_CARE = (attachments, batches, budgets, file_usage, sessions, turn_senders)
#: No copy of a reply is kept for longer.
_COPIES_KEPT = timedelta(days=1)


class Removed(NamedTuple):
    """What became of some sessions of a user."""

    sessions: int
    busy: bool  #: somebody else works with what is left
    streams: list[TurnId]  #: turns whose replies may have been watched


def remove_some(conn: Connection, user_id: str, *, limit: int = 100) -> Removed:
    """Remove up to `limit` sessions of the user with every row; what runs in one is cancelled.

    Such a session is out of everybody's sight, until `remove_hidden`.
    """
    mine, busy = _take(conn, sessions.c.status != SessionStatus.DELETED, user_id, limit)
    if not mine:
        return Removed(0, busy, [])
    streams = _streamed(conn, mine)
    write_session_events(conn, sorted(mine), EventKind.SESSION_DELETED)
    lock_topics(conn, topics_of(conn, mine))  # of both kinds below, in one order
    running = set(
        conn.scalars(
            select(turns.c.session_id).where(
                turns.c.session_id.in_(mine), turns.c.state == TurnState.RUNNING
            )
        )
    )
    _hide(conn, {SessionId(one) for one in running})
    remove_sessions(conn, sorted(mine - running))
    return Removed(len(mine), busy, streams)


def runs(conn: Connection, user_id: str) -> bool:
    """Tell whether a turn of the user runs yet, in a session that nobody sees any more."""
    running = (
        select(turns.c.id)
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(_hidden(user_id), turns.c.state == TurnState.RUNNING)
    )
    return conn.execute(running.limit(1)).first() is not None


def remove_hidden(conn: Connection, user_id: str, *, limit: int = 100) -> Removed:
    """Remove up to `limit` sessions that nobody sees, whatever runs in them: it is fenced off."""
    mine, busy = _take(conn, sessions.c.status == SessionStatus.DELETED, user_id, limit)
    streams = _streamed(conn, mine)
    return Removed(remove_sessions(conn, sorted(mine)), busy, streams)


def redact_some(
    conn: Connection, user_id: str, *, after: TurnId | None = None, limit: int = 200
) -> TurnId | None:
    """Empty up to `limit` of what the user has said in sessions of others; return the last one.

    What of it waits or runs there is cancelled. Where something runs or works at a vendor that has
    read it, his name stays, and with it that somebody has to come again.
    """
    found = select(turn_senders.c.turn_id).where(turn_senders.c.name == user_id)
    if after is not None:
        found = found.where(turn_senders.c.turn_id > after)
    ids = [TurnId(one) for one in conn.scalars(found.order_by(turn_senders.c.turn_id).limit(limit))]
    if not ids:
        return None
    mine = turn_senders.c.turn_id.in_(ids)
    of = conn.scalars(select(turn_senders.c.session_id).where(mine).distinct())
    lock_sessions(conn, [SessionId(one) for one in of])
    cancel_open(conn, turns.c.id.in_(ids))
    rest = redact_turns(conn, ids)
    done = delete(turn_senders).where(mine, turn_senders.c.session_id.in_(sorted(rest)))
    add_rows(conn, user_id, {turn_senders.name: conn.execute(done).rowcount})
    return ids[-1]


def remove_rest(conn: Connection, user_id: str) -> None:
    """Remove what names the user and is of no session, but for files: see `attachments`."""
    gone: Counter[str] = Counter()
    for one in NAMING:
        if one.table in _WITH_CARE:
            continue
        mine = one.of_user_alone(user_id)
        change = update(one.table).values(_redacted(one)) if one.redacted else delete(one.table)
        gone[one.table.name] += conn.execute(change.where(mine)).rowcount
    gone[budgets.name] += nobodys(conn, user_id)
    gone[batches.name] += _disown(conn, user_id)
    add_rows(conn, user_id, gone)


def _redacted(one: Belonging) -> dict[str, Any]:
    return {name: null() if value is None else value for name, value in one.redacted.items()}


def _disown(conn: Connection, user_id: str) -> int:
    """Let the user's batches be nobody's: others may have lines in them, and vendors their files.

    His own lines are gone, and with the last of its turns the rest goes as that of any batch.
    """
    mine = update(batches).where(batches.c.user_id == user_id)
    return conn.execute(mine.values({"user_id": None, **NAMELESS})).rowcount


def forget_usage(conn: Connection, user_id: str) -> None:
    """Remove the sum of the user's files, where there are none."""
    files = select(attachments.c.id).where(attachments.c.user_id == user_id)
    conn.execute(delete(file_usage).where(file_usage.c.user_id == user_id, ~files.exists()))


def remove_notes(conn: Connection, user_id: str, *, limit: int = 5_000) -> int:
    """Remove up to `limit` notes of what was posted of the user's sessions; how many."""
    some = (
        select(deliveries.c.id)
        .where(deliveries.c.session_id.in_(gone_of(user_id)), deliveries.c.state != "due")
        .limit(limit)
    )
    gone = conn.execute(delete(deliveries).where(deliveries.c.id.in_(some))).rowcount
    add_rows(conn, user_id, {deliveries.name: gone})
    return gone


def remove_events(conn: Connection, user_id: str) -> int:
    """Remove events of the user's sessions that nobody has to read any more; how many."""
    gone = forget_passed(conn, gone_of(user_id))
    add_rows(conn, user_id, {events.name: gone})
    return gone


def gone_of(user_id: str) -> Any:
    """Select the sessions that were the user's, and are gone."""
    return select(tombstones.c.session_id).where(tombstones.c.user_hash == hash_of_user(user_id))


def _take(conn: Connection, which: Any, user_id: str, limit: int) -> tuple[set[SessionId], bool]:
    """Lock some of the user's sessions; where there are none, whether somebody else holds one."""
    mine = select(sessions.c.id).where(sessions.c.user_id == user_id, which)
    locked = conn.scalars(skipping_busy(mine.limit(limit))).all()
    if not locked:
        return set(), conn.execute(mine.limit(1)).first() is not None
    # Asked again: earlier holders of the locks may have moved them.
    return {SessionId(one) for one in conn.scalars(mine.where(sessions.c.id.in_(locked)))}, False


def _hide(conn: Connection, session_ids: Collection[SessionId]) -> None:
    """Let nobody see these sessions any more, and cut what runs in them."""
    if not session_ids:
        return
    mine = turns.c.session_id.in_(sorted(session_ids))
    running = select(turns.c.id).where(mine, turns.c.state == TurnState.RUNNING)
    found = [TurnId(one) for one in conn.scalars(running)]
    cancel_open(conn, mine)
    tell_ended(conn, found)  # they end later, but nobody can look at them any more
    give_up_all(conn, session_ids)
    hide_sessions(conn, session_ids)


def _hidden(user_id: str) -> Any:
    return (sessions.c.user_id == user_id) & (sessions.c.status == SessionStatus.DELETED)


def _streamed(conn: Connection, session_ids: Collection[SessionId]) -> list[TurnId]:
    ended = turns.c.finished_at
    found = select(turns.c.id).where(
        turns.c.session_id.in_(sorted(session_ids)),
        turns.c.stream,
        or_(ended.is_(None), ended > db_asof_after(-_COPIES_KEPT.total_seconds())),
    )
    return [TurnId(one) for one in conn.scalars(found)]
