"""Which lanes of which providers have anything waiting, and for how long."""

from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import Connection

from turnmill.domain.states import Lane
from turnmill.store.engine import engine_of
from turnmill.store.readable import readable


class Backlog(NamedTuple):
    """Turns of one lane and provider that wait."""

    lane: Lane
    provider: str
    due: bool  #: at least one of them is due now


def backlogs(conn: Connection) -> list[Backlog]:
    """Return what has a head waiting, due or not."""
    rows = engine_of(conn).backlogs(conn)
    return list(readable(rows, lambda row: Backlog(Lane(row[0]), str(row[1]), bool(row[2]))))


def longest_waits(conn: Connection) -> dict[Lane, timedelta]:
    """Return how long the first in each lane has been due: nobody has taken it, nor is it paused.

    On Postgres only. What a dispatcher is about to expire counts too.
    """
    return {Lane(lane): waited for lane, waited in engine_of(conn).longest_waits(conn)}
