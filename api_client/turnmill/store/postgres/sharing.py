"""Sharing a lane between its users on Postgres: who has something due, found user by user."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from turnmill.domain.states import Lane
from turnmill.store.postgres.looking import BACKLOGS, NOT_PAUSED
from turnmill.store.schema.tables import OPEN_OF_USERS
from turnmill.store.schema_name import execute

#: Users beyond those wanted that are looked at in one go: some have nothing due before tomorrow.
_MORE = 200


def _user(beyond: str, *, of: str) -> str:
    """Return what finds the next user of a provider: one step along the index, whatever waits."""
    return f"""CROSS JOIN LATERAL (
        SELECT s.user_id, s.head_due_at FROM turnmill.sessions s
        WHERE {OPEN_OF_USERS} AND s.head_lane = %(lane)s AND s.provider = {of}.provider
            AND s.user_id {beyond}
        ORDER BY s.head_lane, s.provider, s.user_id, s.head_due_at LIMIT 1
    ) AS next"""


def _heads(limit: str, *, until: str = "statement_timestamp()") -> str:
    """Return what finds the oldest heads of a user at a provider that were due by then."""
    return f"""CROSS JOIN LATERAL (
        SELECT s.head_turn_id FROM turnmill.sessions s
        WHERE {OPEN_OF_USERS} AND s.head_lane = %(lane)s AND s.provider = chosen.provider
            AND s.user_id = chosen.user_id AND s.head_due_at <= {until}
        ORDER BY s.head_lane, s.provider, s.user_id, s.head_due_at LIMIT {limit}
    ) AS head"""


# From behind the one who was served last to the end, then from the first one on. A user's oldest
# head says whether he has anything due.
_CHOSEN = f"""
WITH RECURSIVE open AS MATERIALIZED (
    SELECT s.provider FROM ({BACKLOGS}) AS s WHERE s.head_lane = %(lane)s AND {NOT_PAUSED}
), behind AS (
    SELECT open.provider, next.user_id, next.head_due_at, 1 AS steps
    FROM open {_user("> %(after)s", of="open")}
    UNION ALL
    SELECT behind.provider, next.user_id, next.head_due_at, behind.steps + 1
    FROM behind {_user("> behind.user_id", of="behind")} WHERE behind.steps < %(steps)s
), before AS (
    SELECT open.provider, next.user_id, next.head_due_at, 1 AS steps
    FROM open {_user("<= %(after)s", of="open")}
    UNION ALL
    SELECT before.provider, next.user_id, next.head_due_at, before.steps + 1
    FROM before {_user("> before.user_id", of="before")}
    WHERE before.steps < %(steps)s AND next.user_id <= %(after)s
), chosen AS MATERIALIZED (
    SELECT provider, user_id FROM (TABLE behind UNION ALL TABLE before) AS u
    WHERE head_due_at <= statement_timestamp() AND user_id <> ALL(%(served)s::text[])
    LIMIT %(users)s
)"""
_SHARE = "(SELECT ceil(%(heads)s::float / count(*)) FROM chosen)"
_DUE_BY_USER = f"""{_CHOSEN}
SELECT chosen.user_id, head.head_turn_id FROM chosen {_heads(_SHARE)}
"""
# Of each other user as many come first as of this one, and one more, or all that he has. Where this
# one has none before, those that were due earlier.
_BY_THEN = """CASE WHEN (SELECT before FROM mine) = 0 THEN %(due_at)s::timestamptz
            ELSE statement_timestamp() END"""
_AHEAD = f"""{_CHOSEN}, mine AS MATERIALIZED (
    SELECT count(*) AS before FROM (
        SELECT FROM turnmill.sessions s
        WHERE {OPEN_OF_USERS} AND s.head_lane = %(lane)s AND s.user_id = %(user)s
            AND s.provider = ANY(ARRAY(SELECT provider FROM open))
            AND s.head_due_at < %(due_at)s LIMIT %(most)s
    ) AS own
)
SELECT (SELECT before FROM mine), (SELECT count(*) FROM chosen), (SELECT count(*) FROM (
    SELECT FROM chosen {_heads("(SELECT before + 1 FROM mine)", until=_BY_THEN)}
    LIMIT %(most)s
) AS others)
"""


def due_by_user(
    conn: Connection, lane: Lane, *, after: str, served: Collection[str], users: int, heads: int
) -> Sequence[Row[str, UUID]]:
    """Return rows of (user, turn id): the oldest due heads of the next users of a lane."""
    parameters = _next_users(lane, after=after, served=served, users=users)
    return execute(conn, _DUE_BY_USER, {**parameters, "heads": heads}).all()


def ahead_of(
    conn: Connection, lane: Lane, *, user: str, due_at: datetime, users: int, most: int
) -> tuple[int, int, int]:
    """Return how many due heads come first of the user's own, and of how many others how many."""
    parameters = _next_users(lane, after="", served=[user], users=users)
    parameters |= {"user": user, "due_at": due_at, "most": most}
    own, others, theirs = execute(conn, _AHEAD, parameters).one()
    return own, others, theirs


def _next_users(lane: Lane, *, after: str, served: Collection[str], users: int) -> dict[str, Any]:
    return {
        "lane": lane.value,
        "after": after,
        "served": list(served),
        "users": users,
        "steps": users + _MORE,
    }
