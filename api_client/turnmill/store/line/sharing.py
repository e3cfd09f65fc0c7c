"""Sharing a lane between its users: who has something due, whatever waits of each of them."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from turnmill.domain.ids import TurnId
from turnmill.domain.states import Lane
from turnmill.store.engine import engine_of


@dataclass(frozen=True, slots=True)
class Due:
    """The due head of a line, and whose it is."""

    user_id: str = field(repr=False)
    turn_id: TurnId


class Ahead(NamedTuple):
    """What is served before a turn that is due, as far as it was counted."""

    own: int  #: older heads of the same user
    users: int  #: others who have something due
    theirs: int  #: of their heads those that come first


def due_by_user(
    conn: Connection, lane: Lane, *, after: str, served: Collection[str], users: int, heads: int
) -> list[Due]:
    """Return the oldest due heads of up to `users` users, those of each one together.

    About `heads` of all of them, as many of each as of any other: fewer where some have fewer.

    From behind `after` on in the order of their names, and from the first one again; those `served`
    are left out. Paused providers are. Nothing is locked: a claim may find that one is gone.
    Of those with nothing due before later, a bounded number is looked at: then fewer are found.
    """
    rows = engine_of(conn).due_by_user(
        conn, lane, after=after, served=served, users=users, heads=heads
    )
    return [Due(user_id, TurnId(turn_id)) for user_id, turn_id in rows]


def ahead_of(
    conn: Connection, lane: Lane, *, user: str, due_at: datetime, users: int, most: int
) -> Ahead:
    """Count what is served before the head of this user's that has been due since then.

    Each other user is served as often, and once more. Looked at are up to `users` others, and
    counted up to `most` heads.
    """
    found = engine_of(conn).ahead_of(conn, lane, user=user, due_at=due_at, users=users, most=most)
    return Ahead(*found)
