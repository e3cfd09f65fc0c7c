"""Claims of one process on its store: by hints, by lane, and of suspects."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from turnmill.domain.ids import TurnId
from turnmill.domain.states import Lane
from turnmill.store.database import Database
from turnmill.store.line.claim import claim, claim_due, claim_suspects, still_due
from turnmill.store.records import Claim
from turnmill_worker.layers import clock
from turnmill_worker.turn.crowds import Crowds

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Whose turns run by their ids.
_LANES = (Lane.INTERACTIVE, Lane.BULK)


class Busy:
    """Somebody holds the session for a moment: ask again."""


class Asked(NamedTuple):
    """A turn that a hint named."""

    turn_id: TurnId
    crowded: bool = False  #: whoever asks has the last slot, or has waited for it


class Claims:
    """Takes turns under this process's lease. From threads that may wait for the store."""

    def __init__(self, database: Database, *, owner: str, lease: timedelta, crowds: Crowds) -> None:
        self._database = database
        self._owner = owner
        self._lease = lease
        self._crowds = crowds

    def by_hints(self, asked: Sequence[Asked]) -> list[Claim | Busy | None]:
        """Return what becomes of each: its turn, None where it is not ours to run, or Busy.

        In a crowd it may be another one's turn first, whom no hint has named.
        """
        asked_at = clock.now()
        named = dict.fromkeys(one.turn_id for one in asked)
        with self._database.single() as conn:
            given = self._whose_turn(conn, asked)
            first = list(dict.fromkeys([*given, *named]) if given else named)
            claims = self._timed(self._take(conn, first, most=len(named)), asked_at)
            self._crowds.note_begun(Lane.INTERACTIVE, claims, of=given)
            own = {one.turn_id: one for one in claims if one.turn_id in named}
            missing = [one for one in named if one not in own] if len(claims) < len(named) else []
            busy = set(still_due(conn, missing, lanes=_LANES)) if missing else set()
        others = [one for one in claims if one.turn_id not in own]
        # Two hints of one turn in one group: the first of them gets the claim.
        found = [own.pop(one.turn_id, None) for one in asked]
        return [
            one or (others.pop() if others else Busy() if turn_id in busy else None)
            for one, (turn_id, _) in zip(found, asked, strict=True)
        ]

    def just(self, turn_id: TurnId) -> Claim | None:
        """Return this turn and no other's: it goes on in the slot that it has."""
        asked_at = clock.now()
        with self._database.single() as conn:
            claims = self._timed(self._take(conn, [turn_id]), asked_at)
        return claims[0] if claims else None

    def in_lane(self, lane: Lane, limit: int) -> list[Claim]:
        """Take up to `limit` due turns of the lane; each user's in turn where there are more."""
        asked_at = clock.now()
        taken: list[Claim] = []
        with self._database.single() as conn:
            given = (
                self._crowds.in_turn(conn, lane, most=limit) if self._crowds.was_left(lane) else ()
            )
            if given:
                taken = self._take(conn, given, most=limit, lanes=(lane,))
            if (left := limit - len(taken)) > 0:
                taken += claim_due(conn, lane, limit=left, owner=self._owner, lease=self._lease)
        self._crowds.note_claim(lane, full=len(taken) >= limit)
        self._crowds.note_begun(lane, taken, of=given)
        return self._timed(taken, asked_at)

    def suspects(self, lost: int, limit: int) -> list[Claim]:
        """Take up to `limit` turns in quarantine that were lost so often."""
        asked_at = clock.now()
        with self._database.single() as conn:
            claims = claim_suspects(
                conn, lost=lost, limit=limit, owner=self._owner, lease=self._lease
            )
        return self._timed(claims, asked_at)

    def _whose_turn(self, conn: "Connection", asked: Sequence[Asked]) -> Sequence[TurnId]:
        """Return whose turn it is before those that hints name; none where nobody's is."""
        crowded = any(one.crowded for one in asked)
        if not crowded and not self._crowds.has_long_queue(Lane.INTERACTIVE):
            return ()
        return self._crowds.in_turn(conn, Lane.INTERACTIVE, most=len(asked))

    def _take(
        self,
        conn: "Connection",
        turn_ids: Sequence[TurnId],
        *,
        most: int | None = None,
        lanes: Sequence[Lane] = _LANES,
    ) -> list[Claim]:
        limit = most if most is not None and most < len(turn_ids) else None
        return claim(conn, turn_ids, owner=self._owner, lease=self._lease, lanes=lanes, limit=limit)

    def _timed(self, claims: Sequence[Claim], asked_at: float) -> list[Claim]:
        """Write into the claims when their leases end here: on our clock, and rather too early."""
        ends = asked_at + self._lease.total_seconds()
        return [one.held_until(ends) for one in claims]
