"""Looking at SQLite: what was said, what waits, and how the library is."""

import socket
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select

from turnmill.domain.ids import SessionId
from turnmill.domain.states import SessionStatus, TurnState
from turnmill.store.capabilities import Vitals
from turnmill.store.codec import StoredHistory
from turnmill.store.schema.tables import messages, sessions, turns

_HISTORY = (
    select(messages.c.role, messages.c.content)
    .join(turns, turns.c.id == messages.c.turn_id)
    .where(turns.c.session_id == bindparam("of_session"), turns.c.state == TurnState.SUCCEEDED)
    .order_by(turns.c.seq, messages.c.position)
)


def history(conn: Connection, session_id: SessionId) -> StoredHistory:
    """Return all messages of succeeded turns, in order."""
    rows = conn.execute(_HISTORY, {"of_session": session_id})
    return StoredHistory.of_rows((row.role, row.content) for row in rows)


def backlogs(conn: Connection) -> Sequence[Row[str, str, bool]]:
    """Return rows of (lane, provider, due) for what has a head waiting."""
    return conn.execute(
        select(
            sessions.c.head_lane,
            sessions.c.provider,
            func.min(sessions.c.head_due_at) <= datetime.now(UTC),
        )
        .where(
            sessions.c.head_due_at.is_not(None),
            sessions.c.status == SessionStatus.ACTIVE,
        )
        .group_by(sessions.c.head_lane, sessions.c.provider)
    ).all()


def notify(conn: Connection, channel: str, ids: Collection[Any]) -> None:
    """Do nothing: whoever waits asks, and whoever runs a turn looks for cancels."""


def require_fresh_reads(conn: Connection) -> None:
    """Do nothing: whoever has begun to write is alone."""


def has_been_up(conn: Connection, span: timedelta) -> bool:
    """Return True: no server stands between a turn's owner and the file."""
    return True


def vitals(conn: Connection) -> Vitals:
    """Ask the library about itself."""
    version: str = conn.exec_driver_sql("SELECT sqlite_version()").scalar_one()
    return Vitals(
        product=f"SQLite {version}",
        now=datetime.now(UTC),
        encoding="UTF8",
        durable=True,
        most_connections=None,
        connections=1,
        read_only=False,
    )


def identity(conn: Connection) -> Sequence[object]:
    """Return the machine and the file; nothing in memory."""
    file = conn.engine.url.database
    return [socket.gethostname(), Path(file).resolve()] if file and file != ":memory:" else []
