"""What an accept writes of a turn and of a new session."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Table, select
from sqlalchemy.dialects import postgresql

from turnmill.crypto.wanted import Owner
from turnmill.domain.errors import (
    IdempotencyConflict,
    InvalidInput,
    SessionArchived,
    SessionNotFound,
    TurnmillError,
)
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import SessionStatus
from turnmill.store.codec import content_hash
from turnmill.store.records import Accepted, NewSession, NewTurn, Written
from turnmill.store.rules.sealing import Sealer, is_encrypted, note_owners, sealer_for
from turnmill.store.schema.tables import sessions, turns

#: Of sessions that messages can be sent to.
TAKES_MESSAGES = (SessionStatus.ACTIVE, SessionStatus.PAUSED)
#: Of those in which no key stands for anything; None: there is no row.
GONE = (None, SessionStatus.DELETED)

_POSTGRES = postgresql.dialect()  # type: ignore[no-untyped-call]


class Field(NamedTuple):
    """A column, and the value that a record gives it."""

    column: str
    read: Callable[[Any], Any]
    #: in SQL, where the value is NULL; `{most}` stands for the attempts that the session allows
    default: str | None = None

    def type_in(self, table: Table) -> str:
        """Return the column's type in Postgres' words."""
        return table.c[self.column].type.compile(dialect=_POSTGRES)

    def written(self, given: str, *, most: str) -> str:
        """Return what the column becomes."""
        return f"COALESCE({given}, {self.default.format(most=most)})" if self.default else given


def _hash(turn: NewTurn) -> bytes | None:
    return None if turn.idempotency_key is None else content_hash(turn.messages)


def _metadata(turn: NewTurn) -> dict[str, Any] | None:
    return dict(turn.metadata) or None


#: Of a turn, besides its ids and its place in the line.
TURN: tuple[Field, ...] = (
    Field("lane", attrgetter("lane.value")),
    Field("max_attempts", attrgetter("max_attempts"), default="{most}"),
    Field("available_at", attrgetter("deliver_at"), default="clock_timestamp()"),
    Field("expires_at", attrgetter("expires_at")),
    Field("idempotency_key", attrgetter("idempotency_key")),
    Field("idempotency_hash", _hash),
    Field("batch_id", attrgetter("batch_id")),
    Field("batch_line", attrgetter("batch_line")),
    Field("custom_id", attrgetter("custom_id")),
    Field("retry_of", attrgetter("retry_of")),
    Field("metadata", _metadata, default="'{{}}'"),
    Field("stream", lambda turn: turn.stream or None, default="false"),
    Field("max_cost_usd", attrgetter("max_cost_usd")),
)

#: Stands for the hash of what was said when its time was over. Not NULL, which code of before does
#: not expect beside a key.
OF_WHAT_IS_GONE = b""


def whole_seconds(ttl: timedelta | None) -> int | None:
    """Return a span as the columns hold it."""
    return None if ttl is None else int(ttl.total_seconds())


#: Of a session, besides its id and its line.
SESSION: tuple[Field, ...] = (
    Field("key", attrgetter("key")),
    Field("user_id", attrgetter("user_id")),
    Field("provider", attrgetter("provider")),
    Field("model", attrgetter("model")),
    Field("system_prompt", attrgetter("system_prompt")),
    Field("settings", lambda new: dict(new.settings)),
    Field("metadata", lambda new: dict(new.metadata)),
    Field("on_failure", attrgetter("on_failure")),
    Field("on_ambiguous", attrgetter("on_ambiguous")),
    Field("max_attempts", attrgetter("max_attempts")),
    Field("idle_seconds", lambda new: whole_seconds(new.idle_ttl)),
    Field("adopted", attrgetter("adopted")),
    Field("content_seconds", lambda new: whole_seconds(new.keep_content)),
    Field("key_id", attrgetter("key_id")),
)


def columns(fields: tuple[Field, ...]) -> str:
    """Return the names, as an INSERT lists them."""
    return ", ".join(one.column for one in fields)


def typed(fields: tuple[Field, ...], table: Table) -> str:
    """Return names and types, as a recordset declares them."""
    return ", ".join(f"{one.column} {one.type_in(table)}" for one in fields)


def turn_values(turn: NewTurn, session_id: SessionId, sealer: Sealer | None) -> dict[str, Any]:
    """Return the columns of a turn; NULL is what the caller left open."""
    values = {one.column: one.read(turn) for one in TURN}
    if sealer is not None and values["idempotency_hash"] is not None:
        values["idempotency_hash"] = sealer.hashed(session_id, values["idempotency_hash"])
    if sealer is not None and values["metadata"] is not None:
        place = f"{session_id.hex}/{turn.id.hex}"
        said = values["metadata"]
        values["metadata"] = sealer.object(session_id, turns.c.metadata, place, said)
    return values


def says_the_same(
    turn: NewTurn, known_hash: bytes, session_id: SessionId, sealer: Sealer | None
) -> bool:
    """Tell whether the turn says what the one did that has its key, encrypted since or not.

    Where what that one said is gone, nobody knows, and it passes for the same.
    """
    known = bytes(known_hash)
    if known == OF_WHAT_IS_GONE:
        return True
    plain = content_hash(turn.messages)
    return known == plain or (sealer is not None and known == sealer.hashed(session_id, plain))


def session_values(new: NewSession, sealer: Sealer | None) -> dict[str, Any]:
    """Return the columns of a new session."""
    values = {one.column: one.read(new) for one in SESSION}
    if sealer is not None:
        prompt = sessions.c.system_prompt
        values["system_prompt"] = sealer.value(new.id, prompt, new.id.hex, new.system_prompt)
        for column in (sessions.c.settings, sessions.c.metadata):
            said = values[column.name]
            values[column.name] = sealer.object(new.id, column, new.id.hex, said)
    return values


def sealer_of_new(conn: Connection, new: Sequence[NewSession]) -> Sealer | None:
    """Return what seals for sessions that have no rows yet."""
    if any(one.key_id for one in new) and not is_encrypted(conn):
        raise InvalidInput("key_id: nothing is encrypted here", hint="TURNMILL_ENCRYPTION_KEYS")
    note_owners(conn, {one.id: Owner(one.user_id, one.key_id or "") for one in new})
    return sealer_for(conn, {one.id for one in new})


def _in_words(value: Any) -> str:
    """Return what JSON has no form for, in the words of the column's type; TypeError for others."""
    if isinstance(value, UUID):
        return value.hex
    if isinstance(value, (datetime, Decimal)):
        return str(value)
    raise TypeError(f"a {type(value).__name__} is no JSON")


def _or_bytes(value: Any) -> str:
    return "\\x" + value.hex() if isinstance(value, bytes) else _in_words(value)


#: Writes rows as JSON, from which a recordset reads them. They are of our own making, so that none
#: holds itself, and nobody has to look whether one does.
in_json = json.JSONEncoder(default=_in_words, check_circular=False).encode
_with_bytes = json.JSONEncoder(default=_or_bytes, check_circular=False).encode


def as_json(row: Mapping[str, Any]) -> str:
    """Return an accepted row in JSON, without what is NULL: most of most rows is."""
    return _with_bytes({name: value for name, value in row.items() if value is not None})


def accepted(conn: Connection, session_id: SessionId, turn: NewTurn, written: Written) -> Accepted:
    """Return what became of a message, or raise why it was not written."""
    created, announce, known_id, known_hash = written
    if created:
        return Accepted(turn_id=turn.id, session_id=session_id, created=True, announce=announce)
    if known_id is None or _status(conn, session_id) in GONE:
        raise _why_closed(conn, session_id)
    if not says_the_same(turn, known_hash, session_id, sealer_for(conn, (session_id,))):
        raise IdempotencyConflict()
    return Accepted(turn_id=TurnId(known_id), session_id=session_id, created=False, announce=False)


def _why_closed(conn: Connection, session_id: SessionId) -> SessionNotFound | SessionArchived:
    """Return the error that explains why the session takes no message."""
    archived = _status(conn, session_id) == SessionStatus.ARCHIVED
    return SessionArchived() if archived else SessionNotFound()


def _status(conn: Connection, session_id: SessionId) -> str | None:
    return conn.scalar(select(sessions.c.status).where(sessions.c.id == session_id))


#: What is said of one of many messages, in place of what is said of one alone.
_OF_MANY: Mapping[type[TurnmillError], str] = {
    SessionNotFound: "message {} names no session",
    SessionArchived: "the session of message {} is archived",
    IdempotencyConflict: "the idempotency key of message {} stands for other content",
}


def at_message(index: int, error: TurnmillError) -> TurnmillError:
    """Say which of many messages the error is about."""
    told = _OF_MANY.get(type(error))
    error.args = (f"message {index}: {error}" if told is None else told.format(index),)
    error.index = index
    return error


def require_open(index: int, status: str | None) -> None:
    """Raise unless a session of this status takes message number `index`; None: there is none."""
    if status not in TAKES_MESSAGES:
        archived = status == SessionStatus.ARCHIVED
        raise at_message(index, SessionArchived() if archived else SessionNotFound())


TURN_TYPES = typed(TURN, turns)
SESSION_TYPES = typed(SESSION, sessions)
