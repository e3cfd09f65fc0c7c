"""Sessions: creating, reading, changing, archiving, deleting. No turn that runs is cut for it."""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, select, update

from turnmill.domain.bounds import LONGEST_IDLE
from turnmill.domain.content import sender_of, without_sender
from turnmill.domain.errors import (
    Conflict,
    MoveRefused,
    SessionArchived,
    SessionNotFound,
    UnreadableRow,
    VersionConflict,
)
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.json_values import Unreadable
from turnmill.domain.session_settings import OBSERVERS, merged_settings
from turnmill.domain.states import (
    EventKind,
    OnAmbiguous,
    OnFailure,
    Running,
    SessionStatus,
    TurnState,
    sources_of,
)
from turnmill.store.codec import shown_parts
from turnmill.store.engine import engine_of
from turnmill.store.kept import give_up_all
from turnmill.store.line.endings import end_turns, tell_ended
from turnmill.store.line.head import lock_sessions, move_lines
from turnmill.store.message_records import MessageRecord
from turnmill.store.readable import read_one, read_page, readable
from turnmill.store.records import Head, NewSession, SessionRecord
from turnmill.store.rules.accepting import sealer_of_new, session_values, whole_seconds
from turnmill.store.rules.happenings import observe, observe_new, write_session_events
from turnmill.store.rules.sealing import object_in, sealed_in
from turnmill.store.schema.tables import messages, sessions, turns
from turnmill.store.types import db_now, insert_into
from turnmill.store.vaults import plain
from turnmill.wire import CANCEL_CHANNEL

if TYPE_CHECKING:
    from turnmill.domain.templates import TemplateRef

#: What to do about turns that are in the way.
HINT = "wait for them or cancel them: running='wait' or 'cancel' does it"

#: Kept as seconds: field of a record → column.
_SPANS = {"idle_ttl": "idle_seconds", "keep_content": "content_seconds"}
_COLUMNS = tuple(sessions.c[_SPANS.get(name, name)] for name in SessionRecord.__dataclass_fields__)


def create(conn: Connection, new: NewSession) -> SessionRecord:
    """Create the session, or return the one that its key already stands for.

    Raises Conflict when the key belongs to another user, or the thread that is to be adopted to
    another session; SessionArchived when it was archived.
    """
    statement = (
        insert_into(conn, sessions)
        .values(id=new.id, **session_values(new, sealer_of_new(conn, [new])))
        .on_conflict_do_nothing()
        .returning(*_COLUMNS)
    )
    row = conn.execute(statement).one_or_none()
    if row is not None:
        observe_new(conn, [new])
        write_session_events(conn, [new.id], EventKind.OPENED)
        return read_one(row, _record)
    if new.adopted is not None and (new.key is None or not _stands(conn, new.key)):
        raise Conflict(
            "another session goes on with this thread",
            hint="a conversation is one session's alone; go on with a response of it (resp_…)",
        )
    found = by_key(conn, new.key or "")
    if found.user_id != new.user_id:
        raise Conflict("this session key belongs to another user", hint="put the user into the key")
    if found.status is SessionStatus.ARCHIVED:
        raise SessionArchived()
    return found


def get(conn: Connection, session_id: SessionId) -> SessionRecord:
    """Return the session, or raise SessionNotFound."""
    return _one(conn, sessions.c.id == session_id)


def by_key(conn: Connection, key: str) -> SessionRecord:
    """Return the session with this key, or raise SessionNotFound."""
    return _one(conn, sessions.c.key == key)


def id_of_key(conn: Connection, key: str) -> SessionId:
    """Return the id that the key stands for, or raise SessionNotFound."""
    found = conn.scalar(select(sessions.c.id).where(sessions.c.key == key, _present()))
    if found is None:
        raise SessionNotFound()
    return SessionId(found)


def find(
    conn: Connection,
    *,
    user_id: str | None = None,
    status: SessionStatus | None = None,
    ids: tuple[UUID, UUID] | None = None,
    template: "TemplateRef | None" = None,
    after: SessionId | None = None,
    limit: int = 100,
) -> list[SessionRecord]:
    """Return up to `limit` sessions, newest first; `after` is the last id of the page before.

    `ids` are the least and the largest that are wanted; `template` is what they were made from.
    """
    query = select(*_COLUMNS).where(_present())
    if template is not None:
        query = query.where(sessions.c.template == template.name)
        if template.version is not None:
            query = query.where(sessions.c.template_version == template.version)
    if user_id is not None:
        query = query.where(sessions.c.user_id == user_id)
    if status is not None:
        query = query.where(sessions.c.status == status)
    if ids is not None:
        query = query.where(sessions.c.id.between(*ids))
    if after is not None:
        query = query.where(sessions.c.id < after)
    return read_page(conn, query, _record, by=sessions.c.id, limit=limit)


def change(
    conn: Connection,
    session_id: SessionId,
    values: Mapping[str, Any],
    *,
    if_version: int | None = None,
) -> SessionRecord:
    """Set options of the session; turns that run keep what they were given.

    `more_settings` go into those that it has; None takes one out. Raises VersionConflict where the
    session is no longer of that version.
    """
    columns = dict(values) | {"version": sessions.c.version + 1}
    holds_otherwise = "on_ambiguous" in columns
    if holds_otherwise or "more_settings" in columns or if_version is not None:
        lock_sessions(conn, [session_id])
    if if_version is not None:
        _require_version(conn, session_id, if_version)
    if "more_settings" in columns:
        columns["settings"] = _with_settings(conn, session_id, columns.pop("more_settings"))
    for name, column in _SPANS.items():
        if name in columns:
            columns[column] = whole_seconds(columns.pop(name))
    record = put(conn, session_id, columns, EventKind.UPDATED)
    if holds_otherwise:
        move_lines(conn, [session_id])
    if "settings" in columns:
        observe(conn, {session_id: columns["settings"].get(OBSERVERS) or ()})
    return record


def put(
    conn: Connection, session_id: SessionId, columns: Mapping[str, Any], kind: EventKind
) -> SessionRecord:
    """Write columns of the session, with an event, and return it; raises SessionNotFound."""
    if columns.get("system_prompt") is not None:
        prompt, place = sessions.c.system_prompt, session_id.hex
        sealed = sealed_in(conn, session_id, prompt, place, columns["system_prompt"])
        columns = {**columns, "system_prompt": sealed}
    if not columns.keys().isdisjoint(("provider", "model", "metadata")):
        from turnmill.store.rules.figures import mark_moved  # noqa: PLC0415  few change these

        lock_sessions(conn, [session_id])
        mark_moved(conn, session_id, columns)
    for of in (sessions.c.settings, sessions.c.metadata):
        if of.name in columns:
            said = object_in(conn, session_id, of, session_id.hex, columns[of.name])
            columns = {**columns, of.name: said}
    row = conn.execute(
        update(sessions)
        .where(sessions.c.id == session_id, _present())
        .values(**columns)
        .returning(*_COLUMNS)
    ).one_or_none()
    if row is None:
        raise SessionNotFound()
    write_session_events(conn, [session_id], kind)
    return read_one(row, _record)


def _require_version(conn: Connection, session_id: SessionId, wanted: int) -> None:
    found = get(conn, session_id).version
    if found != wanted:
        raise VersionConflict(
            f"the session is at version {found}, and not at {wanted}", version=found
        )


def _with_settings(
    conn: Connection, session_id: SessionId, changes: Mapping[str, Any]
) -> Mapping[str, Any]:
    settings = get(conn, session_id).settings
    if isinstance(settings, Unreadable):
        raise UnreadableRow()  # all others would be lost, and nobody told
    return merged_settings(settings, changes)


def archive(conn: Connection, session_id: SessionId) -> SessionRecord:
    """Refuse messages from now on. Raises MoveRefused while a turn is unfinished."""
    lock_sessions(conn, [session_id])
    found = get(conn, session_id)
    if found.status is SessionStatus.ARCHIVED:
        return found
    if found.unfinished:
        raise MoveRefused(f"{found.unfinished} turns of the session are unfinished", hint=HINT)
    give_up_all(conn, [session_id])
    values = {"status": SessionStatus.ARCHIVED, "archived_at": db_now()}
    return put(conn, session_id, values, EventKind.ARCHIVED)


def pause(conn: Connection, session_id: SessionId) -> SessionRecord:
    """Start no turn of the session until it is resumed; messages are still accepted."""
    return _switch(conn, session_id, SessionStatus.ACTIVE, SessionStatus.PAUSED)


def resume(conn: Connection, session_id: SessionId) -> SessionRecord:
    """Let the turns of a paused session run again."""
    return _switch(conn, session_id, SessionStatus.PAUSED, SessionStatus.ACTIVE)


def head_of(conn: Connection, session_id: SessionId) -> list[Head]:
    """Return the session's head if it is due now."""
    lock_sessions(conn, [session_id])
    return move_lines(conn, [session_id])


def remove(
    conn: Connection, session_id: SessionId, *, running: Running = Running.WAIT
) -> list[TurnId]:
    """Delete the session with every row; a turn that runs is not cut, unless that is wanted.

    Then the rows stay, invisible, until that turn has ended, and its id is returned; everything
    that was queued is cancelled at once. Raises MoveRefused where a turn that runs is to prevent
    it, and UserOnHold.
    """
    # Every table of what belongs to sessions: whoever only sends needs few of them.
    from turnmill.store.line.removing import hide_sessions, remove_sessions  # noqa: PLC0415
    from turnmill.store.nouns.holds import refuse_held_sessions  # noqa: PLC0415

    lock_sessions(conn, [session_id])
    get(conn, session_id)
    refuse_held_sessions(conn, [session_id])
    mine = turns.c.session_id == session_id
    found = conn.scalar(select(turns.c.id).where(mine, turns.c.state == TurnState.RUNNING))
    if found is not None and running is Running.REFUSE:
        raise MoveRefused("a turn of the session runs", hint=HINT)
    write_session_events(conn, [session_id], EventKind.SESSION_DELETED)
    if found is None:
        remove_sessions(conn, [session_id])
        return []
    if running is Running.CANCEL:
        cancel_open(conn, mine)
    not_running = sources_of(TurnState.CANCELLED) - {TurnState.RUNNING}
    end_turns(conn, TurnState.CANCELLED, mine, turns.c.state.in_(not_running))
    tell_ended(conn, [TurnId(found)])  # it runs on, but nobody can look at it any more
    give_up_all(conn, [session_id])
    hide_sessions(conn, [session_id])
    return [TurnId(found)]


def cancel_open(conn: Connection, which: ColumnElement[bool]) -> None:
    """Cancel what does not run, and ask for the end of what does. See `turns.cancel`."""
    not_running = sources_of(TurnState.CANCELLED) - {TurnState.RUNNING}
    end_turns(conn, TurnState.CANCELLED, which, turns.c.state.in_(not_running))
    asked = (
        update(turns)
        .where(which, turns.c.state == TurnState.RUNNING)
        .values(cancel_requested=True)
        .returning(turns.c.id)
    )
    if ids := [TurnId(one) for one in conn.scalars(asked)]:
        engine_of(conn).notify(conn, CANCEL_CHANNEL, ids)


def history(
    conn: Connection, session_id: SessionId, *, after_seq: int = 0, limit: int = 500
) -> list[MessageRecord]:
    """Return messages of up to `limit` turns after turn number `after_seq`, in order."""
    get(conn, session_id)
    page = (
        select(turns.c.id, turns.c.seq, turns.c.state)
        .where(turns.c.session_id == session_id, turns.c.seq > after_seq)
        .order_by(turns.c.seq)
        .limit(limit)
        .subquery()
    )
    rows = conn.execute(
        select(messages, page.c.seq, page.c.state)
        .join(page, page.c.id == messages.c.turn_id)
        .order_by(page.c.seq, messages.c.position)
    )
    return list(readable(rows, _message))


def _message(row: Row[Any]) -> MessageRecord:
    return MessageRecord(
        id=row.id,
        turn_id=TurnId(row.turn_id),
        seq=row.seq,
        position=row.position,
        role=row.role,
        parts=without_sender(said := shown_parts(row.content)),
        sender=sender_of(said),
        state=TurnState(row.state),
        created_at=row.created_at,
        partial=row.partial,
    )


def _switch(
    conn: Connection, session_id: SessionId, source: SessionStatus, target: SessionStatus
) -> SessionRecord:
    lock_sessions(conn, [session_id])
    found = get(conn, session_id)
    if found.status is target:
        return found
    if found.status is not source:
        raise MoveRefused(
            f"a session that is {found.status} cannot become {target}",
            hint="`turnmill sessions restore ID` for an archived one",
        )
    kind = EventKind.PAUSED if target is SessionStatus.PAUSED else EventKind.RESUMED
    return put(conn, session_id, {"status": target}, kind)


def _stands(conn: Connection, key: str) -> bool:
    return conn.execute(select(sessions.c.id).where(sessions.c.key == key)).first() is not None


def _present() -> Any:
    return sessions.c.status != SessionStatus.DELETED


def _one(conn: Connection, condition: Any) -> SessionRecord:
    row = conn.execute(select(*_COLUMNS).where(condition, _present())).one_or_none()
    if row is None:
        raise SessionNotFound()
    return read_one(row, _record)


def _span(seconds: int | None) -> timedelta | None:
    if seconds is None:
        return None
    return timedelta(seconds=max(0, min(seconds, int(LONGEST_IDLE.total_seconds()))))


def _record(row: Row[Any]) -> SessionRecord:
    values = dict(row._mapping)
    spans = {name: _span(values.pop(column)) for name, column in _SPANS.items()}
    return SessionRecord(
        **values
        | spans
        | {
            "system_prompt": plain(row.system_prompt),
            "settings": plain(row.settings),
            "metadata": plain(row.metadata),
            "status": SessionStatus(values["status"]),
            "on_failure": OnFailure(values["on_failure"]),
            "on_ambiguous": OnAmbiguous(values["on_ambiguous"]),
        }
    )
