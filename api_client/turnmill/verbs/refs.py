"""Sessions as callers name them, and messages for many of them at once."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import Connection

from turnmill.domain.checks import check_name
from turnmill.domain.errors import InvalidInput
from turnmill.domain.ids import BatchId, SessionId, as_uuid
from turnmill.store.capabilities import Capability, capabilities_of
from turnmill.store.line.accept import accept_within
from turnmill.store.line.accept_many import accept_many, accept_new
from turnmill.store.nouns import sessions as session_rows
from turnmill.store.records import Accepted, NewTurn, SessionRecord
from turnmill.store.refusals import translated
from turnmill.store.schema_name import translate
from turnmill.verbs import intake
from turnmill.verbs.backpressure import Backpressure

if TYPE_CHECKING:
    from sqlalchemy.orm import Session as OrmSession

_HINT = "what `client.sessions.create` has returned, its id, or its key"

#: A session as returned by the client, its id, or its key.
SessionRef = SessionRecord | UUID | str


def batch_named(batch: object) -> BatchId | str:
    """Return the id or the name of a batch given as handle, id or name; raises InvalidInput."""
    found = intake.bare(batch)
    name = check_name(found, name="batch") if isinstance(found, str) else ""
    as_id = as_uuid(name) if name else intake.identifier(found, name="batch")
    return name if as_id is None else BatchId(as_id)


def session_id(conn: Connection, session: SessionRef) -> SessionId:
    """Return the id of a session given as record, id or key; raises SessionNotFound."""
    found = intake.bare(session)
    if isinstance(found, str):
        name = check_name(found, name="session")
        as_id = as_uuid(name)
        return SessionId(as_id) if as_id else session_rows.id_of_key(conn, name)
    if not isinstance(found, UUID):
        raise InvalidInput("session must be a record, id or key", hint=_HINT)
    return SessionId(found)


def accept_joined(
    given: "Connection | OrmSession", session: SessionRef, new: NewTurn, schema: str | None
) -> Accepted:
    """Accept a message in the caller's transaction; our tables stand in `schema` (None: SQLite).

    What the caller's driver says is translated, too: its own words may quote the message.
    """
    with translated():
        conn = _joined(given)
        if (Capability.SCHEMAS in capabilities_of(conn)) != (schema is not None):
            raise InvalidInput(
                f"the connection is to a {conn.dialect.name} database, and the client's is not",
                hint="give a connection to the database of the client",
            )
        conn = translate(conn, schema)
        return accept_within(conn, session_id(conn, session), new)


def _joined(given: "Connection | OrmSession") -> Connection:
    """Return the connection of the caller's transaction."""
    if isinstance(given, Connection):
        return given
    if callable(connection := getattr(given, "connection", None)):
        found = connection()  # an ORM session: its transaction begins now, if it had not
        if isinstance(found, Connection):
            return found
    raise InvalidInput(
        "connection must be a SQLAlchemy Connection or ORM Session",
        hint="AsyncClient takes an AsyncConnection or AsyncSession",
    )


def resolve(conn: Connection, refs: Sequence[SessionRef]) -> list[SessionId]:
    """Return the ids of many sessions, each key looked up once."""
    known: dict[str, SessionId] = {}
    ids = []
    for ref in refs:
        if not isinstance(ref, str):
            ids.append(session_id(conn, ref))
            continue
        name = str.__str__(ref)
        if name not in known:
            known[name] = session_id(conn, name)
        ids.append(known[name])
    return ids


def accept_items(
    conn: Connection,
    refs: Sequence[SessionRef],
    turns: Iterator[NewTurn],
    backpressure: Backpressure,
    *,
    keyed: bool,
) -> list[Accepted]:
    """Accept a message for each of the sessions: all of them, or none after an error.

    Unless they have keys, messages are made while those before them are being written.
    """
    ids = resolve(conn, refs)
    backpressure.take_many(conn, ids)
    if keyed:
        return accept_many(conn, list(zip(ids, turns, strict=True)))
    return accept_new(conn, ids, turns)
