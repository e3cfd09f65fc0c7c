"""Claiming turns: the right to call a provider once, under a lease and a rising fence."""

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from datetime import timedelta

from sqlalchemy import Connection

from turnmill.crypto.wanted import KeyWanted
from turnmill.domain.errors import DataKeyMissing, SealBroken, UnreadableRow
from turnmill.domain.ids import TurnId
from turnmill.domain.states import Lane
from turnmill.store.engine import engine_of
from turnmill.store.line.settle import end_unreadable, put_off_for_key
from turnmill.store.readable import ODD
from turnmill.store.records import Claim, Taken
from turnmill.store.vaults import keys_at

#: A history is sealed by a key for each time that its user's was rotated meanwhile.
_MOST_FETCHES = 16


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
    return engine_of(conn).due_suspicions(conn)


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
    """Return the claims that can be read.

    The turn of any other has failed then, and says why; one whose key is missing waits for that.
    """
    claims: list[Claim] = []
    unread: dict[str, list[Taken]] = {}
    wanting = _read_into(claims, unread, taken)
    for _ in range(_MOST_FETCHES):
        if not wanting:
            break
        _fetch(conn, [wanted for _, wanted in wanting])
        wanting = _read_into(claims, unread, [one for one, _ in wanting])
    waiting = unread.pop(DataKeyMissing.code, []) + [one for one, _ in wanting]
    if waiting:
        put_off_for_key(conn, waiting)
    if unread:
        end_unreadable(conn, unread)
    return claims


def _read_into(
    claims: list[Claim], unread: dict[str, list[Taken]], taken: Iterable[Taken]
) -> list[tuple[Taken, KeyWanted]]:
    """Sort claims by what comes of reading them; return those that want a key first."""
    wanting: list[tuple[Taken, KeyWanted]] = []
    for one in taken:
        try:
            claims.append(one.read())
        except KeyWanted as wanted:
            wanting.append((one, wanted))
        except (DataKeyMissing, SealBroken) as error:
            unread.setdefault(error.code, []).append(one)
        except ODD:
            unread.setdefault(UnreadableRow.code, []).append(one)
    return wanting


def _fetch(conn: Connection, wanted: Iterable[KeyWanted]) -> None:
    """Fetch what can be had. The claim is committed, where a store has other users: none waits."""
    keys = keys_at(conn.dialect)
    if keys is not None:
        with suppress(DataKeyMissing):  # whoever needs it waits
            keys.fetch(ids={one for each in wanted for one in each.ids})
