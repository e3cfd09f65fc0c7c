"""The one door by which sessions go, with all that belongs to them: see `schema.belongings`."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, delete, func, select, update

from turnmill.domain.batches import LineState
from turnmill.domain.ids import BatchId, SessionId, TurnId, hash_of_user
from turnmill.domain.states import UNFINISHED, SessionStatus
from turnmill.store.deletion_records import Gone
from turnmill.store.kept import give_up_all
from turnmill.store.line.attached import release
from turnmill.store.line.copies import with_copies
from turnmill.store.line.endings import tell_ended
from turnmill.store.line.going import keep_money
from turnmill.store.line.line_keys import forget_line_keys
from turnmill.store.line.topics import hush, topics_of
from turnmill.store.rules.endings import Happening, write_events
from turnmill.store.rules.figures import keep_figures
from turnmill.store.rules.tallies import GONE, count_gone, count_lines
from turnmill.store.schema.batch_tables import batch_lines, batch_shards
from turnmill.store.schema.belongings import BELONGINGS, Belonging, Goes
from turnmill.store.schema.life_tables import tombstones
from turnmill.store.schema.tables import sessions, turns
from turnmill.store.types import db_now, insert_into

#: What goes in the commit that removes a session.
_NOW = tuple(one for one in BELONGINGS if one.goes in (Goes.BY_KEY, Goes.BY_NAME))
#: What a session went on with without its being its own: others may, too.
_RESPONSE = "resp_"


def remove_sessions(
    conn: Connection, session_ids: Collection[SessionId], *, how: Gone = Gone.DELETED
) -> int:
    """Remove these sessions with every row, and return how many there were.

    What was unfinished goes with them, which is an event of each and told to those who wait, and so
    does what was asked again of their turns in trials. A tombstone says what went; figures stay.
    The caller's transaction holds the sessions' locks.
    """
    if not session_ids:
        return 0
    session_ids = with_copies(conn, session_ids)
    unfinished = _unfinished_of(conn, session_ids)
    write_events(conn, unfinished, Happening.DELETED)
    tell_ended(conn, unfinished)
    give_up_all(conn, session_ids)
    release(conn, session_ids)
    keep_figures(conn, session_ids)
    keep_money(conn, session_ids)
    _bury(conn, session_ids, how=how, lines=_take_lines(conn, session_ids))
    count_gone(conn, session_ids)
    of_topics = topics_of(conn, session_ids)
    answers = select(turns.c.id).where(turns.c.session_id.in_(list(session_ids)))
    forget_line_keys(conn, batch_lines.c.reused_from.in_(answers))
    for one in _NOW:
        if one.goes is Goes.BY_NAME and one.table is not sessions:
            conn.execute(delete(one.table).where(one.of_sessions(session_ids)))
    gone = conn.execute(delete(sessions).where(sessions.c.id.in_(session_ids))).rowcount
    hush(conn, of_topics)
    return gone


def hide_sessions(conn: Connection, session_ids: Collection[SessionId]) -> None:
    """Let nobody see these sessions any more, whose rows go when what runs in them has ended.

    The caller's transaction holds their locks.
    """
    for one in sorted(session_ids):
        _hide(conn, one)
    hush(conn, topics_of(conn, session_ids))


def _hide(conn: Connection, session_id: SessionId) -> None:
    tombstone = {"session_id": session_id, "how": Gone.DELETED.value}
    conn.execute(
        insert_into(conn, tombstones).values(**tombstone, **_whose(conn, [session_id])[session_id])
    )
    conn.execute(
        update(sessions)
        .where(sessions.c.id == session_id)
        .values(status=SessionStatus.DELETED, key=None)
    )


def _take_lines(conn: Connection, session_ids: Collection[SessionId]) -> Counter[SessionId]:
    """Remove lines of batches that were to go on with these sessions; return how many of each.

    Of those nobody has made turns yet, and what they say is of the session, too.
    """
    waiting = (
        batch_lines.c.session.in_([str(one) for one in session_ids]),
        batch_lines.c.turn_id.is_(None),
        batch_lines.c.state == LineState.STAGED,
    )
    gone = delete(batch_lines).where(*waiting)
    found = conn.execute(gone.returning(batch_lines.c.batch_id, batch_lines.c.session)).all()
    for batch_id, lines in Counter(row.batch_id for row in found).items():
        count_lines(conn, BatchId(batch_id), GONE, lines)
    return Counter(SessionId(UUID(row.session)) for row in found)


def _bury(
    conn: Connection,
    session_ids: Collection[SessionId],
    *,
    how: Gone,
    lines: Mapping[SessionId, int],
) -> None:
    """Write down what goes; a tombstone that stands since its session was hidden is completed."""
    rows, left = _counted(conn, session_ids), _left_behind(conn, session_ids)
    for one in lines.keys() & rows.keys():
        name = batch_lines.name
        rows[one][name] = rows[one].get(name, 0) + lines[one]
    if not rows:
        return
    whose = _whose(conn, session_ids)
    now = conn.scalars(select(db_now())).one()
    statement = insert_into(conn, tombstones)
    said = statement.excluded
    at_vendors = _at_vendors(conn, session_ids)
    names = ("removed_at", "rows", "left_behind", "batches")
    complete = {name: said[name] for name in names}
    conn.execute(
        statement.on_conflict_do_update(index_elements=["session_id"], set_=complete),
        [
            {
                "session_id": one,
                "how": how.value,
                "removed_at": now,
                "rows": rows[one],
                "left_behind": left.get(one, []),
                "batches": at_vendors.get(one),
                **whose[one],
            }
            for one in rows
        ],
    )


def _whose(
    conn: Connection, session_ids: Collection[SessionId]
) -> Mapping[SessionId, dict[str, str]]:
    """Return what stands for the user of each of the sessions that there are."""
    rows = conn.execute(
        select(sessions.c.id, sessions.c.user_id).where(sessions.c.id.in_(session_ids))
    )
    return {SessionId(row.id): {"user_hash": hash_of_user(row.user_id)} for row in rows}


def _counted(
    conn: Connection, session_ids: Collection[SessionId]
) -> Mapping[SessionId, dict[str, int]]:
    """Return how many rows of each table go with each of the sessions that there are."""
    found: defaultdict[SessionId, dict[str, int]] = defaultdict(dict)
    for one in _NOW:
        for session_id, count in _rows(conn, one, session_ids):
            found[session_id][one.table.name] = count
    return found


def _rows(
    conn: Connection, one: Belonging, session_ids: Collection[SessionId]
) -> Iterator[tuple[SessionId, int]]:
    whose: Any = turns.c.session_id if one.session is None else one.session
    query = select(whose, func.count()).select_from(one.table)
    if one.session is None:
        query = query.join(turns, turns.c.id == one.turn)
    for name, count in conn.execute(query.where(one.of_sessions(session_ids)).group_by(whose)):
        yield SessionId(UUID(name) if one.by_text else name), count


def _left_behind(
    conn: Connection, session_ids: Collection[SessionId]
) -> Mapping[SessionId, list[dict[str, str]]]:
    """Return what no deletion of ours may reach: a response that somebody else may go on with."""
    rows = conn.execute(
        select(sessions.c.id, sessions.c.provider, sessions.c.adopted).where(
            sessions.c.id.in_(session_ids), sessions.c.adopted.startswith(_RESPONSE)
        )
    )
    return {
        SessionId(row.id): [
            {"what": "adopted_response", "provider": row.provider, "ref": row.adopted}
        ]
        for row in rows
    }


def _at_vendors(
    conn: Connection, session_ids: Collection[SessionId]
) -> Mapping[SessionId, list[str]]:
    """Return the batches of these sessions' turns of which vendors keep something yet.

    Which of a batch's shards a turn was in nobody knows any more once it was answered.
    """
    is_open = select(batch_shards.c.id).where(
        batch_shards.c.batch_id == turns.c.batch_id, batch_shards.c.due_at.is_not(None)
    )
    rows = conn.execute(
        select(turns.c.session_id, turns.c.batch_id)
        .where(turns.c.session_id.in_(session_ids), turns.c.batch_id.is_not(None), is_open.exists())
        .distinct()
    )
    found: defaultdict[SessionId, list[str]] = defaultdict(list)
    for row in rows:
        found[SessionId(row.session_id)].append(row.batch_id.hex)
    return found


def _unfinished_of(conn: Connection, session_ids: Collection[SessionId]) -> list[TurnId]:
    rows = conn.scalars(
        select(turns.c.id)
        .where(turns.c.session_id.in_(session_ids), turns.c.state.in_(UNFINISHED))
        .order_by(turns.c.session_id, turns.c.seq)
    )
    return [TurnId(one) for one in rows]
