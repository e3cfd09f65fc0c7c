"""Sessions as callers name them, and messages for many of them at once."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Union
from uuid import UUID

from sqlalchemy import Connection

from turnmill.domain.checks import check_name
from turnmill.domain.content import Attached
from turnmill.domain.errors import InvalidInput, SessionNotFound
from turnmill.domain.ids import BatchId, SessionId, as_uuid
from turnmill.store.capabilities import Capability, capabilities_of
from turnmill.store.line.accept import accept_within
from turnmill.store.line.accept_many import accept_many, accept_new
from turnmill.store.nouns import sessions as session_rows
from turnmill.store.records import Accepted, NewTurn, SessionRecord
from turnmill.store.refusals import translated
from turnmill.store.rules.accepting import at_message
from turnmill.store.rules.sealing import require_keys
from turnmill.store.schema_name import translate
from turnmill.verbs import intake
from turnmill.verbs.backpressure import Backpressure

if TYPE_CHECKING:
    from sqlalchemy.orm import Session as OrmSession

    from turnmill.store.template_records import TemplateRecord

_HINT = "what `client.sessions.create` has returned, its id, or its key"

#: A session as returned by the client, its id, or its key.
SessionRef = SessionRecord | UUID | str
#: A template as `client.templates` has returned it, its name, or `name@version`.
TemplateRef = Union["TemplateRecord", str]


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
        conn = joined(given, schema)
        accepted = accept_within(conn, session_id(conn, session), new)
        note_files(conn, [accepted], [new])
        return accepted


def joined(given: "Connection | OrmSession", schema: str | None) -> Connection:
    """Return the connection of the caller's transaction, as our statements need it."""
    conn = _connection_of(given)
    if (Capability.SCHEMAS in capabilities_of(conn)) != (schema is not None):
        raise InvalidInput(
            f"the connection is to a {conn.dialect.name} database, and the client's is not",
            hint="give a connection to the database of the client",
        )
    return translate(conn, schema)


def _connection_of(given: "Connection | OrmSession") -> Connection:
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
    for index, ref in enumerate(refs):
        try:
            ids.append(_resolved(conn, ref, known))
        except (InvalidInput, SessionNotFound) as error:
            raise at_message(index, error) from None
    return ids


def _resolved(conn: Connection, ref: SessionRef, known: dict[str, SessionId]) -> SessionId:
    if not isinstance(ref, str):
        return session_id(conn, ref)
    name = str.__str__(ref)
    if name not in known:
        known[name] = session_id(conn, name)
    return known[name]


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
    require_keys(conn, set(ids))  # the messages can be iterated over once
    backpressure.take_many(conn, ids)
    holding: list[NewTurn | None] = []
    turns = noting_files(turns, holding)
    if keyed:
        accepted = accept_many(conn, list(zip(ids, turns, strict=True)))
    else:
        accepted = accept_new(conn, ids, turns)
    if any(holding):
        note_files(conn, accepted, holding)
    return accepted


def noting_files(turns: Iterator[NewTurn], holding: list[NewTurn | None]) -> Iterator[NewTurn]:
    """Yield the turns, and note of each whether it holds files."""
    for turn in turns:
        holding.append(turn if files_in(turn) else None)
        yield turn


def files_in(turn: NewTurn) -> list[UUID]:
    """Return the ids of attachments that a new turn holds; most hold none."""
    parts = [part for one in turn.messages for part in one.parts if isinstance(part, Attached)]
    return [found for part in parts if (found := as_uuid(part.id)) is not None]


def note_files(
    conn: Connection, accepted: Sequence[Accepted], turns: Sequence[NewTurn | None]
) -> None:
    """Note which attachments new turns hold, in the transaction that accepts them.

    Raises AttachmentNotFound for one that is not of the session's user, or is going.
    """
    for one, turn in zip(accepted, turns, strict=True):
        if turn is not None and one.created and (ids := files_in(turn)):
            from turnmill.store.line.attached import use  # noqa: PLC0415  few hold any

            use(conn, one.session_id, one.turn_id, ids)
