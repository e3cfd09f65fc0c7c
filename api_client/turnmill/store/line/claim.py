"""Claiming turns: the right to call a provider once, under a lease and a rising fence."""

from collections.abc import Collection, Sequence
from datetime import timedelta

from sqlalchemy import Connection

from turnmill.domain.ids import TurnId
from turnmill.domain.states import Lane
from turnmill.store.capabilities import Capability, require
from turnmill.store.engine import engine_of
from turnmill.store.line.settle import end_unreadable
from turnmill.store.postgres import claiming
from turnmill.store.readable import ODD
from turnmill.store.records import Claim, Taken


def claim(
    conn: Connection,
    turn_ids: Sequence[TurnId],
    *,
    owner: str,
    lease: timedelta,
    lanes: Collection[Lane] = (Lane.INTERACTIVE, Lane.BULK),
    limit: int | None = None,
) -> list[Claim]:
    """Take those of the turns that are ours to run, each for one attempt.

    With a limit, the first so many of them in the order given.

    A turn that is missing from the result is held by another worker, final, not due, paused, or
    behind an unfinished turn of its session: do not call the provider. The lease runs on the
    database's clock. A claim counts as possibly sent from its commit on.
    """
    taken = engine_of(conn).claim(
        conn, turn_ids, owner=owner, lease=lease, lanes=lanes, limit=limit
    )
    return _read(conn, taken)


def claim_due(
    conn: Connection,
    lane: Lane,
    *,
    limit: int,
    owner: str,
    lease: timedelta,
) -> list[Claim]:
    """Take up to `limit` due turns of a lane; those of one provider oldest first."""
    taken = engine_of(conn).claim_due(conn, lane, limit=limit, owner=owner, lease=lease)
    return _read(conn, taken)


def due_suspicions(conn: Connection) -> set[int]:
    """Return how often the turns due in quarantine were lost (3: three times or more)."""
    require(conn, Capability.SHARED)
    return claiming.due_suspicions(conn)


def claim_suspects(
    conn: Connection, *, lost: int, limit: int, owner: str, lease: timedelta
) -> list[Claim]:
    """Take up to `limit` due turns in quarantine that were lost `lost` times (3: three or more)."""
    taken = engine_of(conn).claim_suspects(conn, lost=lost, limit=limit, owner=owner, lease=lease)
    return _read(conn, taken)


def still_due(
    conn: Connection, turn_ids: Sequence[TurnId], *, lanes: Collection[Lane]
) -> list[TurnId]:
    """Return those of the turns that a claim passed over though they are due: they were locked."""
    return engine_of(conn).still_due(conn, turn_ids, lanes=lanes)


def _read(conn: Connection, taken: Sequence[Taken]) -> list[Claim]:
    """Return the claims that can be read. The turn of any other has failed then, and says why."""
    claims: list[Claim] = []
    odd: list[Taken] = []
    for one in taken:
        try:
            claims.append(one.read())
        except ODD:
            odd.append(one)
    if odd:
        end_unreadable(conn, [(one.turn_id, one.session_id, one.fence) for one in odd])
    return claims
