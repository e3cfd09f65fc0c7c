"""Sharing a lane between its users in single steps."""

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, and_, func, select, text

from turnmill.domain.states import Lane
from turnmill.store.rules.claiming import PROVIDER
from turnmill.store.schema.tables import OPEN_OF_USERS, pauses, sessions

#: Users beyond those wanted that are looked at in one go.
_MORE = 200


def due_by_user(
    conn: Connection, lane: Lane, *, after: str, served: Collection[str], users: int, heads: int
) -> Sequence[Row[str, UUID]]:
    """Return rows of (user, turn id): the oldest due heads of the next users of a lane."""
    found: list[Row[str, UUID]] = []
    chosen = list(islice(_due_users(conn, lane, after, served, most=users + _MORE), users))
    each = -(-heads // max(1, len(chosen)))
    for user in chosen:
        due = select(sessions.c.user_id, sessions.c.head_turn_id).where(
            *_open(lane), sessions.c.user_id == user, sessions.c.head_due_at <= datetime.now(UTC)
        )
        found += conn.execute(due.order_by(sessions.c.head_due_at).limit(each)).all()
    return found


def ahead_of(
    conn: Connection, lane: Lane, *, user: str, due_at: datetime, users: int, most: int
) -> tuple[int, int, int]:
    """Return how many due heads come first of the user's own, and of how many others how many."""
    mine = and_(sessions.c.user_id == user, sessions.c.head_due_at < due_at)
    own = _counted(conn, *_open(lane), mine, most=most)
    others = list(islice(_due_users(conn, lane, "", [user], most=users + _MORE), users))
    theirs = 0
    by_then = datetime.now(UTC) if own else due_at
    for other in others:
        due = and_(sessions.c.user_id == other, sessions.c.head_due_at <= by_then)
        theirs += _counted(conn, *_open(lane), due, most=min(own + 1, most - theirs))
    return own, len(others), theirs


def _due_users(
    conn: Connection, lane: Lane, after: str, served: Collection[str], *, most: int
) -> Iterator[str]:
    """Yield who has something due: from behind `after` to the end, then from the first one on."""
    first = func.min(sessions.c.user_id)
    user = conn.scalar(select(first).where(*_open(lane), sessions.c.user_id > after))
    wrapped = user is None
    if wrapped:
        user = conn.scalar(select(first).where(*_open(lane)))
    for _ in range(most):
        if user is None or (wrapped and user > after):
            return
        oldest = select(func.min(sessions.c.head_due_at)).where(
            *_open(lane), sessions.c.user_id == user
        )
        due_at = conn.scalar(oldest)
        if due_at is not None and due_at <= datetime.now(UTC) and user not in served:
            yield user
        user = conn.scalar(select(first).where(*_open(lane), sessions.c.user_id > user))
        if user is None and not wrapped:
            wrapped = True
            user = conn.scalar(select(first).where(*_open(lane)))


def _open(lane: Lane) -> tuple[Any, ...]:
    paused = select(pauses.c.name).where(pauses.c.kind == PROVIDER)
    return (
        sessions.c.head_lane == lane,
        text(OPEN_OF_USERS),
        sessions.c.provider.not_in(paused),
    )


def _counted(conn: Connection, *conditions: Any, most: int) -> int:
    rows = select(sessions.c.id).where(*conditions).limit(most).subquery()
    return conn.scalar(select(func.count()).select_from(rows)) or 0
