"""Crowds: lanes with more that is due than this process can take, whose users take turns."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from turnmill.domain.ids import TurnId
from turnmill.domain.states import Lane
from turnmill.store.line.sharing import Due, due_by_user, owners_of
from turnmill_worker.turn.rota import Rota

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: A queue is looked at once a second: it is long until then, and no longer.
_NEWS_LAST = timedelta(seconds=3)
#: Whoever is alone in a lane pays for a look this often.
_REST = timedelta(milliseconds=20)
#: After each of these, what was begun before counts half. So long one who comes anew, and sends as
#: much as there are slots for, may go before all others.
_LATELY = timedelta(seconds=10)
#: So many users are asked about in a look, however few slots there are.
_LEAST_USERS = 20
#: Users who are told apart by what they had; among more than that, one is as good as the other.
_MOST_KNOWN = 1000


class Crowds:
    """Which lanes are crowded, and whose turn it is there. From any thread.

    Where nothing waits nobody is asked for anything; where it does, one query is, user by user.
    """

    def __init__(
        self,
        *,
        held: Callable[[Lane], Mapping[str, int]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`held` tells how many turns of a lane this process holds of each user."""
        self._held = held
        self._clock = clock
        self._lock = threading.Lock()
        self._rotas = {lane: Rota() for lane in Lane}
        self._begun: dict[Lane, Counter[str]] = {lane: Counter() for lane in Lane}
        self._halves_at = clock() + _LATELY.total_seconds()
        self._long_until = dict.fromkeys(Lane, 0.0)
        self._rests_until = dict.fromkeys(Lane, 0.0)
        self._full: set[Lane] = set()

    def note_queue(self, lane: Lane) -> None:
        """Note that the lane's queue of hints is long."""
        self._long_until[lane] = self._clock() + _NEWS_LAST.total_seconds()

    def note_claim(self, lane: Lane, *, full: bool) -> None:
        """Note whether a claim in the lane got all that it wanted: then there may be more."""
        with self._lock:
            (self._full.add if full else self._full.discard)(lane)

    def note_begun(self, lane: Lane, users: Sequence[str]) -> None:
        """Note whose turns were claimed."""
        with self._lock:
            if self._clock() >= self._halves_at:
                self._halve()
            begun = self._begun[lane]
            begun.update(users)
            if len(begun) > 2 * _MOST_KNOWN:  # of so many, those who had least had no more than all
                self._begun[lane] = Counter(dict(begun.most_common(_MOST_KNOWN)))

    def has_long_queue(self, lane: Lane) -> bool:
        """Tell whether hints wait in the lane's queue, as far as anybody has looked."""
        return self._clock() < self._long_until[lane]

    def was_left(self, lane: Lane) -> bool:
        """Tell whether the last claim in the lane may have left something."""
        return lane in self._full

    def in_turn(
        self, conn: "Connection", lane: Lane, *, most: int, named: Sequence[TurnId] = ()
    ) -> list[TurnId]:
        """Return up to `most` turns to claim, each user's in turn, and of his own those named.

        Those named, as they are, where their user is alone.
        """
        if self._clock() < self._rests_until[lane]:
            return list(named)
        rota, had = self._rotas[lane], self._had(lane)
        waiting = _waiting(conn, lane, after=rota.after, had=had, users=max(most, _LEAST_USERS))
        if not waiting:
            self._rests_until[lane] = self._clock() + _REST.total_seconds()
            return list(named)
        if named:
            waiting = [*owners_of(conn, named), *waiting]
        with self._lock:
            return rota.choose(waiting, had=had, most=most)

    def _had(self, lane: Lane) -> dict[str, int]:
        """Return how many slots each user had lately: those that he has, and what was begun."""
        with self._lock:
            had = dict(self._begun[lane])
        for user, count in self._held(lane).items():
            had[user] = had.get(user, 0) + count
        return had

    def _halve(self) -> None:
        self._halves_at = self._clock() + _LATELY.total_seconds()
        for lane, begun in self._begun.items():
            halves = {user: count // 2 for user, count in begun.items() if count > 1}
            self._begun[lane] = Counter(halves)


def _waiting(
    conn: "Connection", lane: Lane, *, after: str, had: Mapping[str, int], users: int
) -> list[Due]:
    """Return what is due of those who had less than others, or else of all; none of one alone."""
    many = _who_had_much(had)
    found = due_by_user(conn, lane, after=after, served=many, users=users)
    if found or not many:
        return found
    if len(had) > 1:
        found = due_by_user(conn, lane, after=after, served=(), users=users)
    return found if len({one.user_id for one in found}) > 1 else []


def _who_had_much(had: Mapping[str, int]) -> list[str]:
    if len(had) == 1:
        return list(had)
    if not had or len(had) > _MOST_KNOWN:
        return []
    mean = sum(had.values()) / len(had)
    return [user for user, count in had.items() if count > mean]
