"""The load of a lane: who works in it, how fast turns end there, and what is served first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, func, literal, select

from turnmill.domain.ids import SessionId
from turnmill.domain.states import Lane, SessionStatus, TurnState
from turnmill.store.line.backlogs import backlogs
from turnmill.store.line.pauses import read_pauses
from turnmill.store.line.sharing import ahead_of
from turnmill.store.schema.limit_tables import accounts
from turnmill.store.schema.tables import sessions, turns
from turnmill.store.types import Timestamp, db_asof, db_asof_after

#: More turns than this are not counted.
MOST_COUNTED = 10_000
#: So many other users of a lane are asked for what comes first of theirs.
_MOST_USERS = 1_000
_MOST_CLOSED = 1_000
#: Within these it is counted how many turns have ended, until there are some, the last ones first.
_SPANS = (timedelta(seconds=5), timedelta(minutes=1), timedelta(minutes=15))
_ENOUGH = 10
#: The last turns of a session, which say how long one takes there.
_LAST = 10


@dataclass(frozen=True, slots=True)
class Load:
    """How a lane does at this moment."""

    running: int  #: turns of it that workers hold
    oldest_at: datetime | None  #: since when the one that waits the longest could run


class Loads:
    """The loads of lanes, and what is closed; each read once, when somebody asks for it."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._read: dict[Lane, Load] = {}
        self._ended: dict[Lane, datetime | None] = {}

    def of(self, lane: Lane) -> Load:
        """Return the load of the lane, as it was when it was first asked for."""
        if lane not in self._read:
            self._read[lane] = self._load(lane)
        return self._read[lane]

    def is_worked_on(self, lane: Lane, *, since: datetime) -> bool:
        """Tell whether a worker holds a turn of the lane, or has ended one since then.

        What ended more than a quarter of an hour ago is no sign of any.
        """
        if self.of(lane).running:
            return True
        if lane not in self._ended:
            self._ended[lane] = self._last_end(lane)
        last = self._ended[lane]
        return last is not None and last >= since

    @cached_property
    def closed(self) -> Sequence[Any]:
        """Return the accounts that are closed, and the models behind an open breaker."""
        a = accounts.c
        columns = (a.kind, a.provider, a.account, a.model, a.code, a.closed_at, a.closed_until)
        found = select(*columns).where(a.closed_at.is_not(None), a.closed_until > db_asof())
        return self._conn.execute(found.order_by(a.closed_until.desc()).limit(_MOST_CLOSED)).all()

    def ahead(self, lane: Lane, *, user: str, due_at: datetime) -> int:
        """Count what is served before a turn that has been due since then; 10,000: or more."""
        most = MOST_COUNTED
        found = ahead_of(self._conn, lane, user=user, due_at=due_at, users=_MOST_USERS, most=most)
        return most if found.users >= _MOST_USERS else min(most, found.own + found.theirs)

    def rate(self, lane: Lane) -> float | None:
        """Return how many turns of the lane end in a second; None where none has for long."""
        rate = None
        for span in _SPANS:
            since = db_asof_after(-span.total_seconds())
            ended = select(func.count(type_=Integer)).where(
                turns.c.finished_at >= since, turns.c.started_at.is_not(None), _of(lane)
            )
            count = self._conn.scalar(ended) or 0
            if count:
                rate = count / span.total_seconds()
            if count >= _ENOUGH:
                break
        return rate

    def typical(self, session_id: SessionId, *, before: int) -> timedelta | None:
        """Return how long the last turns of a session before this one took; None: nobody knows."""
        rows = self._conn.execute(
            select(turns.c.started_at, turns.c.finished_at)
            .where(
                turns.c.session_id == session_id,
                turns.c.seq < before,
                turns.c.state == TurnState.SUCCEEDED,
            )
            .order_by(turns.c.seq.desc())
            .limit(_LAST)
        )
        took = [row.finished_at - row.started_at for row in rows if row.started_at is not None]
        return sum(took, timedelta(0)) / len(took) if took else None

    def _load(self, lane: Lane) -> Load:
        # Running turns are few, and their index is small; what has ended is in the order of time.
        held = select(literal(1)).where(turns.c.state == TurnState.RUNNING, _of(lane))
        counted = select(func.count()).select_from(held.limit(MOST_COUNTED).subquery())
        running = self._conn.scalar(counted) or 0
        return Load(running, self._oldest(lane))

    def _oldest(self, lane: Lane) -> datetime | None:
        s, paused = sessions.c, read_pauses(self._conn).providers
        waiting = [one for one in backlogs(self._conn) if one.lane is lane and one.due]
        found: list[datetime] = []
        for provider in {one.provider for one in waiting} - paused:
            first = select(s.head_due_at).where(
                s.head_lane == lane,
                s.provider == provider,
                s.status == SessionStatus.ACTIVE,
                s.head_due_at.is_not(None),
            )
            found += self._conn.scalars(first.order_by(s.head_due_at).limit(1)).all()
        return min(found, default=None)

    def _last_end(self, lane: Lane) -> datetime | None:
        for span in _SPANS:
            last: Any = select(func.max(turns.c.finished_at, type_=Timestamp)).where(
                turns.c.finished_at >= db_asof_after(-span.total_seconds()), _of(lane)
            )
            found: datetime | None = self._conn.scalar(last)
            if found is not None:
                return found
        return None


def _of(lane: Lane) -> ColumnElement[bool]:
    """Return whether a turn is served in the lane: what was lost before is in quarantine."""
    return turns.c.lost > 0 if lane is Lane.QUARANTINE else turns.c.lane == lane
