"""Crowds: lanes with more that is due than this process can take, whose users take turns."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from turnmill.domain.ids import TurnId
from turnmill.domain.states import Lane
from turnmill.store.line.sharing import Due, due_by_user
from turnmill.store.records import Claim
from turnmill_worker.turn.rota import Rota

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: A queue is looked at once a second: it is long until then, and no longer.
_NEWS_LAST = timedelta(seconds=3)
#: Whoever is alone in a lane pays for a look this often.
_REST = timedelta(milliseconds=20)
#: In a crowd, one look serves the claims of this time: it costs as much as a claim of ten turns.
_LOOK_LASTS = {
    Lane.INTERACTIVE: timedelta(milliseconds=100),
    Lane.BULK: timedelta(milliseconds=250),
    Lane.QUARANTINE: timedelta(milliseconds=250),
}
#: Claims of the size of the one for which a look is made that it should do for.
_CLAIMS_OF_A_LOOK = 3
#: After each of these, what was begun before counts half. So long one who comes anew, and sends as
#: much as there are slots for, may go before all others.
_LATELY = timedelta(seconds=10)
#: So many users are asked about in a look, however few slots there are.
_LEAST_USERS = 20
#: Among more users than these are found in a look, so many turns of each: the next user costs as
#: much as five turns of one.
_TURNS_OF_EACH = 6
#: Users who are told apart by what they had; among more than that, one is as good as the other.
_MOST_KNOWN = 1000


class _Look(NamedTuple):
    """Whose turn it is, as was found a moment ago."""

    until: float
    next: deque[TurnId]


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
        self._looks: dict[Lane, _Look] = {}
        self._full: set[Lane] = set()

    def note_queue(self, lane: Lane) -> None:
        """Note that the lane's queue of hints is long."""
        self._long_until[lane] = self._clock() + _NEWS_LAST.total_seconds()

    def note_claim(self, lane: Lane, *, full: bool) -> None:
        """Note whether a claim in the lane got all that it wanted: then there may be more."""
        with self._lock:
            (self._full.add if full else self._full.discard)(lane)

    def note_begun(self, lane: Lane, claims: Sequence[Claim], *, of: Sequence[TurnId] = ()) -> None:
        """Note which turns were claimed, of those that `in_turn` had given."""
        with self._lock:
            if self._clock() >= self._halves_at:
                self._halve()
            begun, rota = self._begun[lane], self._rotas[lane]
            for one in claims:
                begun[one.user_id] += 1
                rota.serve(one.user_id)
            if len(begun) > 2 * _MOST_KNOWN:  # of so many, those who had least had no more than all
                self._begun[lane] = Counter(dict(begun.most_common(_MOST_KNOWN)))
            if of:
                self._pass_over(lane, of, {one.turn_id for one in claims})

    def has_long_queue(self, lane: Lane) -> bool:
        """Tell whether hints wait in the lane's queue, as far as anybody has looked."""
        return self._clock() < self._long_until[lane]

    def was_left(self, lane: Lane) -> bool:
        """Tell whether the last claim in the lane may have left something."""
        return lane in self._full

    def in_turn(self, conn: "Connection", lane: Lane, *, most: int) -> list[TurnId]:
        """Return turns in the order in which they are to be claimed: more than `most` of them.

        Other workers may have taken some. Of a user who is alone there are none.
        """
        now = self._clock()
        if now < self._rests_until[lane]:
            return []
        look = self._looks.get(lane)
        if look is None or now >= look.until or len(look.next) < most:
            look = self._look(conn, lane, most=_CLAIMS_OF_A_LOOK * most)
        with self._lock:
            return list(islice(look.next, 2 * most))

    def _look(self, conn: "Connection", lane: Lane, *, most: int) -> _Look:
        rota, had = self._rotas[lane], self._had(lane)
        waiting = _waiting(conn, lane, after=rota.after, had=had, most=most)
        now = self._clock()
        if not waiting:
            self._rests_until[lane] = now + _REST.total_seconds()
        with self._lock:
            ordered = deque(rota.order(waiting, had=had))
        look = self._looks[lane] = _Look(now + _LOOK_LASTS[lane].total_seconds(), ordered)
        return look

    def _pass_over(self, lane: Lane, given: Sequence[TurnId], taken: Collection[TurnId]) -> None:
        """Drop what was given up to the last one that was taken: what stands before it is gone."""
        last = max((n for n, one in enumerate(given) if one in taken), default=len(given))
        gone = set(given[: last + 1])
        look = self._looks[lane]
        while look.next and look.next[0] in gone:
            look.next.popleft()

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
    conn: "Connection", lane: Lane, *, after: str, had: Mapping[str, int], most: int
) -> list[Due]:
    """Return what is due of those who had less than others, or else of all; none of one alone."""
    many = _who_had_much(had)
    users = max(most // _TURNS_OF_EACH, _LEAST_USERS)
    due = partial(due_by_user, conn, lane, after=after, users=users, heads=max(most, 2 * users))
    found = due(served=many)
    if found and many:
        return found
    if many and len(had) > 1:
        found = due(served=())
    return found if len({one.user_id for one in found}) > 1 else []


def _who_had_much(had: Mapping[str, int]) -> list[str]:
    if len(had) == 1:
        return list(had)
    if not had or len(had) > _MOST_KNOWN:
        return []
    mean = sum(had.values()) / len(had)
    return [user for user, count in had.items() if count > mean]
