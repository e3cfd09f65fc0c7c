"""Sessions and their lines, and turns without a reply, page by page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from turnmill.domain.errors import SessionNotFound
from turnmill.domain.states import SessionStatus
from turnmill.store.schema_name import execute

#: Rows of a page.
PAGE = 25

_SESSION_COLUMNS = """
id, provider, model, status, unfinished, head_turn_id, head_lane, head_due_at, turns_succeeded,
    turns_failed, input_tokens, output_tokens, cost_usd, unpriced_attempts, created_at,
    last_active_at, archived_at
"""
_SESSION = f"""
SELECT {_SESSION_COLUMNS} FROM turnmill.sessions
WHERE id = %(session)s AND status <> '{SessionStatus.DELETED}'
"""
_SESSIONS = f"""
SELECT {_SESSION_COLUMNS} FROM turnmill.sessions
WHERE id = ANY(%(ids)s) AND status <> '{SessionStatus.DELETED}' ORDER BY id DESC
"""
# Only the runtime role may look up a user's sessions: names of users are not the viewer's to read.
_OF_USER = f"""
SELECT id FROM turnmill.sessions WHERE user_id = %(user)s AND id < %(after)s
    AND status <> '{SessionStatus.DELETED}' ORDER BY id DESC LIMIT {PAGE + 1}
"""
_LINE = f"""
SELECT id, seq, state, lane, attempt, max_attempts, error_code, waits_for, retry_of, cost_usd,
    created_at, finished_at
FROM turnmill.turns WHERE session_id = %(session)s AND seq < %(before)s
ORDER BY seq DESC LIMIT {PAGE + 1}
"""
_FAILED = f"""
SELECT t.id, t.session_id, t.seq, t.state, t.lane, t.attempt, t.lost, t.error_code, t.batch_id,
    t.cost_usd, t.created_at, t.finished_at, s.provider, s.model
FROM turnmill.turns t JOIN turnmill.sessions s ON s.id = t.session_id
WHERE t.state IN ('dead', 'failed') AND t.id < %(after)s AND s.status <> '{SessionStatus.DELETED}'
    AND (%(state)s::text IS NULL OR t.state = %(state)s)
    AND (%(code)s::text IS NULL OR coalesce(t.error_code, '') = %(code)s)
    AND (%(batch)s::uuid IS NULL OR t.batch_id = %(batch)s)
ORDER BY t.id DESC LIMIT {PAGE + 1}
"""
_LAST = UUID(int=2**128 - 1)
_ENDLESS = 2**63 - 1

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLook:
    """A session, and a page of its line, the newest turn first."""

    session: Row = field(repr=False)
    turns: Sequence[Row] = field(repr=False)
    before: int | None  #: the next page begins before this turn; None: this is the last one


def session(conn: Connection, session_id: UUID, *, before: int | None = None) -> SessionLook:
    """Return the session as it stands; raises SessionNotFound."""
    found = _rows(conn, _SESSION, session=session_id)
    if not found:
        raise SessionNotFound()
    turns = _rows(conn, _LINE, session=session_id, before=before or _ENDLESS)
    more = len(turns) > PAGE
    return SessionLook(
        session=found[0], turns=turns[:PAGE], before=turns[PAGE - 1]["seq"] if more else None
    )


def ids_of_user(
    conn: Connection, user_id: str, *, after: UUID | None = None
) -> tuple[list[UUID], UUID | None]:
    """Return sessions of a user, newest first, and after which one the next page begins."""
    found = list(execute(conn, _OF_USER, {"user": user_id, "after": after or _LAST}).scalars())
    return found[:PAGE], found[PAGE - 1] if len(found) > PAGE else None


def sessions(conn: Connection, ids: Sequence[UUID]) -> list[Row]:
    """Return these sessions, newest first."""
    return _rows(conn, _SESSIONS, ids=list(ids))


def failed(
    conn: Connection,
    *,
    state: str | None = None,
    code: str | None = None,
    batch: UUID | None = None,
    after: UUID | None = None,
) -> tuple[list[Row], UUID | None]:
    """Return turns without a reply, newest first, and after which one the next page begins."""
    wanted = {"state": state, "code": code, "batch": batch, "after": after or _LAST}
    found = _rows(conn, _FAILED, **wanted)
    return found[:PAGE], found[PAGE - 1]["id"] if len(found) > PAGE else None


def _rows(conn: Connection, statement: str, **wanted: Any) -> list[Row]:
    return [
        {
            name: value.astimezone(UTC) if isinstance(value, datetime) else value
            for name, value in row.items()
        }
        for row in execute(conn, statement, wanted).mappings()
    ]
