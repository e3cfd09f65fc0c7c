"""Turns as those who watch them have to know them, in one round trip."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, and_, bindparam, func, select

from turnmill.domain.content import text_of
from turnmill.domain.errors import DataKeyMissing, TurnNotFound, UnreadableRow
from turnmill.domain.ids import TurnId
from turnmill.domain.states import SessionStatus, TurnState
from turnmill.store.codec import parts_from
from turnmill.store.readable import read_all, read_one
from turnmill.store.schema.tables import messages, sessions, turns
from turnmill.store.turn_records import Watched
from turnmill.store.types import db_now

#: After its end the last entries of a copy may be under way for so long.
_UNDER_WAY = timedelta(seconds=5)

_WATCHED = (
    select(
        turns.c.id,
        turns.c.state,
        turns.c.stream,
        turns.c.error_code,
        func.coalesce(turns.c.lease_fence, 0),
        turns.c.attempt,
        turns.c.step,
        turns.c.finished_at,
        db_now(),
        messages.c.content,
    )
    .join(sessions, sessions.c.id == turns.c.session_id)
    .outerjoin(messages, and_(messages.c.turn_id == turns.c.id, messages.c.final))
    .where(
        turns.c.id.in_(bindparam("turn_ids", expanding=True)),
        sessions.c.status != SessionStatus.DELETED,
    )
)


def read_watched(
    conn: Connection, turn_ids: Sequence[TurnId]
) -> list[Watched | TurnNotFound | UnreadableRow | DataKeyMissing]:
    """Return them in this order; an error for one that is not there, or cannot be read."""
    found = {row[0]: row[1:] for row in conn.execute(_WATCHED, {"turn_ids": list(set(turn_ids))})}
    return read_all([found.get(turn_id) for turn_id in turn_ids], _watched)


def _watched(row: Any) -> Watched | TurnNotFound | UnreadableRow | DataKeyMissing:
    if row is None:
        return TurnNotFound()
    state, stream, error_code, fence, attempt, step, finished_at, now, content = row
    has_reply = state == TurnState.SUCCEEDED and content is not None
    try:
        return Watched(
            state=read_one(state, TurnState),
            stream=stream,
            error_code=error_code,
            fence=fence,
            attempt=attempt,
            step=step,
            text=text_of(read_one(content, parts_from)) if has_reply else None,
            is_fresh=finished_at is None or now - finished_at < _UNDER_WAY,
        )
    except (UnreadableRow, DataKeyMissing) as error:
        return error
