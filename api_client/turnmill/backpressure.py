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
from turnmill.store import room

K = TypeVar("K")
V = TypeVar("V")

#: Nobody fills a queue faster than this, so a sum stays good for as long as its room lasts.
_TURNS_PER_SECOND = 20_000
_SHORTEST = 0.2
_LONGEST = 10.0
_KEPT = 10_000
_EVERYBODY = ""


@dataclass(slots=True)
class _Sum:
    unfinished: int
    good_until: float


class Room:
    """Refuses messages beyond the bounds. Thread-safe: a lost update costs another look."""

    def __init__(self, settings: Settings) -> None:
        self._per_user = settings.max_unfinished_per_user
        self._in_all = settings.max_unfinished
        self._users: OrderedDict[SessionId, str] = OrderedDict()
        self._sums: OrderedDict[str, _Sum] = OrderedDict()

    def take(self, conn: Connection, session_id: SessionId, *, count: int = 1) -> None:
        """Raise QueueFull when `count` more turns of this session would be too many."""
        if self._per_user is not None:
            user_id = self._user_of(conn, session_id)
            if user_id is not None:
                self._take(conn, user_id, bound=self._per_user, count=count)
        if self._in_all is not None:
            self._take(conn, _EVERYBODY, bound=self._in_all, count=count)

    def take_many(self, conn: Connection, session_ids: Sequence[SessionId]) -> None:
        """Raise QueueFull when these turns together would be too many, for anybody."""
        for session_id, count in Counter(session_ids).items():
            self.take(conn, session_id, count=count)

    def _take(self, conn: Connection, user_id: str, *, bound: int, count: int) -> None:
        known = self._sums.get(user_id)
        now = time.monotonic()
        if known is None or now >= known.good_until:
            unfinished = room.unfinished(conn, user_id=user_id or None)
            lasts = max(bound - unfinished, 0) / _TURNS_PER_SECOND
            known = _Sum(unfinished, now + min(max(lasts, _SHORTEST), _LONGEST))
            _remember(self._sums, user_id, known)
        if known.unfinished + count > bound:
            whose = "in all" if user_id == _EVERYBODY else "for this user"
            raise QueueFull(
                f"{known.unfinished} turns are unfinished {whose}, {bound} are allowed",
                retry_after=timedelta(seconds=max(1.0, count / 100)),
            )
        known.unfinished += count

    def _user_of(self, conn: Connection, session_id: SessionId) -> str | None:
        user_id = self._users.get(session_id) or room.user_of(conn, session_id)
        if user_id is not None:
            _remember(self._users, session_id, user_id)
        return user_id


def _remember(cache: OrderedDict[K, V], key: K, value: V) -> None:
    cache[key] = value
    while len(cache) > _KEPT:
        cache.popitem(last=False)
