"""What waits and runs, by lane and provider: counted from the heads of all lines."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, func, select

from turnmill.domain.states import Lane, SessionStatus, TurnState
from turnmill.store.readable import readable
from turnmill.store.schema.tables import sessions, turns
from turnmill.store.types import ZERO, Timestamp, db_asof


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneLoad:
    """One lane of one provider, as far as sessions have anything unfinished in it."""

    lane: Lane
    provider: str
    due: int = 0  #: sessions whose next turn could run now
    later: int = 0  #: sessions whose next turn is due at a later moment
    running: int = 0  #: turns that a worker holds
    held: int = 0  #: turns that wait for an operator's decision
    paused: int = 0  #: sessions that are paused with something unfinished
    behind: int = 0  #: turns that wait for an earlier one of their session
    oldest_due_at: datetime | None = None  #: since when the longest of the due ones has waited


def loads(conn: Connection) -> list[LaneLoad]:
    """Return every lane and provider that has something unfinished. Reads only such sessions."""
    found = {(load.lane, load.provider): load for load in _of_heads(conn)}
    for lane, provider, running in _running(conn):
        load = found.get((lane, provider), LaneLoad(lane=lane, provider=provider))
        held = max(0, load.held - running)
        found[lane, provider] = replace(load, running=running, held=held)
    return [found[key] for key in sorted(found, key=lambda key: (list(Lane).index(key[0]), key[1]))]


def _of_heads(conn: Connection) -> list[LaneLoad]:
    active = sessions.c.status == SessionStatus.ACTIVE
    due = and_(active, sessions.c.head_due_at <= db_asof())
    # A head without a due time runs, or is held; which, is known from the turns.
    undated = sessions.c.head_due_at.is_(None)
    oldest: Any = func.min(sessions.c.head_due_at, type_=Timestamp)
    rows = conn.execute(
        select(
            sessions.c.head_lane,
            sessions.c.provider,
            func.count().filter(due).label("due"),
            func.count().filter(and_(active, sessions.c.head_due_at > db_asof())).label("later"),
            func.count().filter(undated).label("held"),
            func.count().filter(sessions.c.status == SessionStatus.PAUSED).label("paused"),
            func.sum(sessions.c.unfinished - 1).label("behind"),
            oldest.filter(due).label("oldest_due_at"),
        )
        .where(sessions.c.unfinished > ZERO)
        .group_by(sessions.c.head_lane, sessions.c.provider)
    )
    return list(readable(rows, lambda row: _load(row._mapping)))


def _running(conn: Connection) -> list[tuple[Lane, str, int]]:
    rows = conn.execute(
        select(sessions.c.head_lane, sessions.c.provider, func.count())
        .join(turns, turns.c.id == sessions.c.head_turn_id)
        .where(turns.c.state == TurnState.RUNNING)
        .group_by(sessions.c.head_lane, sessions.c.provider)
    )
    return list(readable(rows, lambda row: (Lane(row[0]), str(row[1]), int(row[2]))))


def _load(row: Any) -> LaneLoad:
    counts = {name: int(row[name]) for name in ("due", "later", "held", "paused", "behind")}
    return LaneLoad(
        lane=Lane(row["head_lane"]),
        provider=row["provider"],
        oldest_due_at=row["oldest_due_at"],
        **counts,
    )
