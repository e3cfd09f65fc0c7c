"""How many unfinished turns there may be: counted by short-lived sums, never by a shared row."""

import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from sqlalchemy import Connection

from turnmill.domain.errors import QueueFull
from turnmill.domain.ids import SessionId
from turnmill.settings import Settings
from turnmill.store.nouns import unfinished as counted
from turnmill.store.records import SessionRecord

K = TypeVar("K")
V = TypeVar("V")

#: Nobody fills a queue faster than this, so a sum stays good for as long as its room lasts.
_TURNS_PER_SECOND = 20_000
_SHORTEST = 0.2
_LONGEST = 10.0
_KEPT = 10_000
_EVERYBODY = "\0"  # no user can be called that


@dataclass(slots=True)
class _Sum:
    unfinished: int
    good_until: float


class Backpressure:
    """Refuses messages beyond the bounds. Thread-safe: a lost update costs another look."""

    def __init__(self, settings: Settings) -> None:
        self._per_user = settings.max_unfinished_per_user
        self._in_all = settings.max_unfinished
        self._users: OrderedDict[SessionId, str] = OrderedDict()
        self._sums: OrderedDict[str, _Sum] = OrderedDict()

    def note(self, session: SessionRecord) -> None:
        """Remember whose session it is: its first message then asks nobody."""
        _remember(self._users, session.id, session.user_id)

    def take(self, conn: Connection, session_id: SessionId, *, count: int = 1) -> None:
        """Raise QueueFull when `count` more turns of this session would be too many."""
        now = time.monotonic()
        if self._per_user is not None:
            user_id = self._users.get(session_id)
            if user_id is None or now >= self._good_until(user_id):
                user_id = self._look(conn, session_id, now, bound=self._per_user)
            if user_id is not None:
                self._count(user_id, bound=self._per_user, count=count)
        if self._in_all is not None:
            if now >= self._good_until(_EVERYBODY):
                self._note(_EVERYBODY, counted.in_all(conn), now, bound=self._in_all)
            self._count(_EVERYBODY, bound=self._in_all, count=count)

    def take_many(self, conn: Connection, session_ids: Sequence[SessionId]) -> None:
        """Raise QueueFull when these turns together would be too many, for anybody."""
        for session_id, count in Counter(session_ids).items():
            self.take(conn, session_id, count=count)

    def _look(
        self, conn: Connection, session_id: SessionId, now: float, *, bound: int
    ) -> str | None:
        found = counted.of_user(conn, session_id)
        if found is None:
            return None  # whoever writes next will say that there is no such session
        user_id, unfinished = found
        _remember(self._users, session_id, user_id)
        self._note(user_id, unfinished, now, bound=bound)
        return user_id

    def _good_until(self, user_id: str) -> float:
        known = self._sums.get(user_id)
        return 0.0 if known is None else known.good_until

    def _note(self, user_id: str, unfinished: int, now: float, *, bound: int) -> None:
        lasts = max(bound - unfinished, 0) / _TURNS_PER_SECOND
        good_until = now + min(max(lasts, _SHORTEST), _LONGEST)
        _remember(self._sums, user_id, _Sum(unfinished, good_until))

    def _count(self, user_id: str, *, bound: int, count: int) -> None:
        known = self._sums.get(user_id)
        if known is None:
            return  # forgotten by another thread meanwhile
        if known.unfinished + count > bound:
            whose = "in all" if user_id == _EVERYBODY else "for this user"
            raise QueueFull(
                f"{known.unfinished} turns are unfinished {whose}, {bound} are allowed",
                retry_after=timedelta(seconds=max(1.0, count / 100)),
            )
        known.unfinished += count


def _remember(cache: OrderedDict[K, V], key: K, value: V) -> None:
    cache[key] = value
    while len(cache) > _KEPT:
        cache.popitem(last=False)
