"""Batches: many turns from one file, accepted in its order, counted and read back by line."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, and_, or_, select, update

from turnmill.domain.content import Part, text_of
from turnmill.domain.errors import (
    BatchNotFound,
    Conflict,
    MoveRefused,
    SessionNotFound,
    UnreadableRow,
)
from turnmill.domain.ids import BatchId, SessionId, TurnId
from turnmill.domain.states import SessionStatus, TurnState
from turnmill.store.codec import parts_from
from turnmill.store.line.accept_many import accept_many
from turnmill.store.line.start_many import start_many
from turnmill.store.nouns.answering import answered_because, answered_by
from turnmill.store.nouns.batch_counts import BatchCounts as BatchCounts
from turnmill.store.nouns.batch_counts import counts as counts
from turnmill.store.readable import ODD, readable
from turnmill.store.records import Accepted, NewSession, NewTurn
from turnmill.store.schema.tables import batches, messages, sessions, turns
from turnmill.store.types import insert_into


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecord:
    """A batch as it stands."""

    id: BatchId
    name: str
    metadata: Mapping[str, Any] = field(repr=False)
    last_line: int  #: number of the last line that was accepted
    total: int | None  #: how many turns it has; None until every line was accepted
    created_at: datetime
    cancelled_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a batch, checked: a message to a session that exists, or to one of its own."""

    number: int  #: in the file, from 1
    session: NewSession | SessionId | str  #: to be created, or its id, or its key
    turn: NewTurn


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """What a line came to."""

    line: int
    custom_id: str | None
    turn_id: TurnId
    session_id: SessionId
    state: TurnState
    parts: Sequence[Part] | None  #: of its reply; None unless it succeeded
    input_tokens: int | None  #: None: the provider did not say
    output_tokens: int | None
    cached_tokens: int | None
    cost_usd: Decimal | None
    error_code: str | None
    answered_by: str | None = None  #: "provider/model"; None unless it succeeded
    answered_because: str | None = None  #: the code for which the session's own was passed over

    @property
    def text(self) -> str | None:
        """Return the words of the reply; None unless it succeeded."""
        return None if self.parts is None else text_of(self.parts)


def create(
    conn: Connection,
    batch_id: BatchId,
    *,
    name: str,
    content_hash: bytes,
    metadata: Mapping[str, Any],
) -> BatchRecord:
    """Create the batch, or return the one of this name; Conflict when it has other content."""
    conn.execute(
        insert_into(conn, batches)
        .values(id=batch_id, name=name, content_hash=content_hash, metadata=dict(metadata))
        .on_conflict_do_nothing(index_elements=[batches.c.name])
    )
    row = conn.execute(select(batches).where(batches.c.name == name)).one()
    if bytes(row.content_hash) != content_hash:
        raise Conflict("a batch of this name has other content", hint="give the batch another name")
    return _record(row)


def get(conn: Connection, batch: BatchId | str) -> BatchRecord:
    """Return the batch of this id or name, or raise BatchNotFound."""
    column = batches.c.name if isinstance(batch, str) else batches.c.id
    row = conn.execute(select(batches).where(column == batch)).one_or_none()
    if row is None:
        raise BatchNotFound()
    return _record(row)


def find(conn: Connection, *, after: BatchId | None = None, limit: int = 100) -> list[BatchRecord]:
    """Return up to `limit` batches, newest first; `after` is the last id of the page before."""
    query = select(batches).order_by(batches.c.id.desc()).limit(limit)
    if after is not None:
        query = query.where(batches.c.id < after)
    return list(readable(conn.execute(query), _record))


def accept_lines(conn: Connection, batch_id: BatchId, lines: Sequence[Line]) -> list[Accepted]:
    """Accept those lines that do not stand yet, in their order.

    Lines are given in the order of the file. Whoever submits holds the batch's row, so that of two
    submitters each finds what the other has done: no line is accepted twice, none is left out.
    Raises MoveRefused when the batch was cancelled, and what `accept_many` raises.
    """
    batch = locked(conn, batch_id)
    if batch.cancelled_at is not None:
        raise MoveRefused("the batch was cancelled", hint="submit the file under another name")
    fresh = [line for line in lines if line.number > batch.last_line]
    if not fresh:
        return []
    accepted = start_many(
        conn, [(line.session, line.turn) for line in fresh if isinstance(line.session, NewSession)]
    )
    accepted += _append(conn, [line for line in fresh if not isinstance(line.session, NewSession)])
    conn.execute(update(batches).where(batches.c.id == batch_id).values(last_line=fresh[-1].number))
    return accepted


def finish(conn: Connection, batch_id: BatchId, *, total: int) -> None:
    """Note that every line was accepted."""
    conn.execute(
        update(batches)
        .where(batches.c.id == batch_id, batches.c.total.is_(None))
        .values(total=total)
    )


def open_sessions(
    conn: Connection, refs: Collection[SessionId | str]
) -> dict[SessionId | str, SessionId]:
    """Return the sessions, given by id or key, that take messages."""
    ids = [ref for ref in refs if isinstance(ref, UUID)]
    keys = [ref for ref in refs if isinstance(ref, str)]
    takes_messages = sessions.c.status.in_((SessionStatus.ACTIVE, SessionStatus.PAUSED))
    found: dict[SessionId | str, SessionId] = {}
    for row in conn.execute(
        select(sessions.c.id, sessions.c.key).where(
            or_(sessions.c.id.in_(ids), sessions.c.key.in_(keys)), takes_messages
        )
    ):
        found[SessionId(row.id)] = SessionId(row.id)
        if row.key is not None:
            found[row.key] = SessionId(row.id)
    return found


def results(
    conn: Connection, batch_id: BatchId, *, after_line: int = 0, limit: int = 500
) -> list[BatchResult]:
    """Return what up to `limit` lines after that one came to, in the order of the file."""
    reply = and_(messages.c.turn_id == turns.c.id, messages.c.final)
    rows = conn.execute(
        select(*_OF_RESULT, messages.c.content)
        .join_from(turns, sessions, sessions.c.id == turns.c.session_id)
        .join(messages, reply, isouter=True)
        .where(turns.c.batch_id == batch_id, turns.c.batch_line > after_line)
        .order_by(turns.c.batch_line)
        .limit(limit)
    )
    return list(readable(rows, _result))


def locked(conn: Connection, batch_id: BatchId) -> BatchRecord:
    """Lock the batch, before any session, and return it; raises BatchNotFound."""
    query = select(batches).where(batches.c.id == batch_id).with_for_update(key_share=True)
    row = conn.execute(query).one_or_none()
    if row is None:
        raise BatchNotFound()
    return _record(row)


def _append(conn: Connection, lines: Sequence[Line]) -> list[Accepted]:
    """Accept lines of sessions that exist; raises SessionNotFound, naming the line."""
    found = open_sessions(conn, {session_ref(line) for line in lines})
    for line in lines:
        if session_ref(line) not in found:
            raise SessionNotFound(
                f"line {line.number}: no session of this id or key takes messages"
            )
    return accept_many(conn, [(found[session_ref(line)], line.turn) for line in lines])


def session_ref(line: Line) -> SessionId | str:
    """Return the id or key of the session that exists already."""
    assert not isinstance(line.session, NewSession)
    return line.session


def _record(row: Row[Any]) -> BatchRecord:
    return BatchRecord(**{name: getattr(row, name) for name in BatchRecord.__dataclass_fields__})


def _result(row: Row[Any]) -> BatchResult:
    try:
        content, error_code = row.content, row.error_code
        parts = None if content is None else parts_from(content)
    except ODD:
        parts, error_code = None, UnreadableRow.code
    return BatchResult(
        line=row.batch_line,
        custom_id=row.custom_id,
        turn_id=TurnId(row.id),
        session_id=SessionId(row.session_id),
        state=TurnState(row.state),
        parts=parts,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cached_tokens=row.cached_tokens,
        cost_usd=row.cost_usd,
        error_code=error_code,
        answered_by=row.answered_by,
        answered_because=row.answered_because,
    )


_OF_RESULT = (
    *(turns.c[name] for name in ("id", "session_id", "state", "batch_line", "custom_id")),
    *(turns.c[name] for name in ("input_tokens", "output_tokens", "cached_tokens", "cost_usd")),
    *(turns.c.error_code, answered_by(), answered_because()),
)
