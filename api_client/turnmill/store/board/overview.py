"""What runs, what ended badly, how far batches are, and when each job of upkeep last ran."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from turnmill.domain.states import FINAL, TurnState
from turnmill.store.schema.tables import RUNNING_SQL, UNFINISHED_SQL
from turnmill.store.schema_name import execute

#: Rows of a listing.
PAGE = 25
#: Codes that are counted apart; the rest are counted together.
MOST_CODES = 50
#: Workers that are named.
MOST_WORKERS = 200
_MOST_JOBS = 50

_CODES = f"""
SELECT state, coalesce(error_code, '') AS code, count(*) AS turns, max(finished_at) AS latest
FROM turnmill.turns WHERE state IN ('dead', 'failed')
GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT {MOST_CODES}
"""
_HOLDERS = f"""
SELECT lease_owner AS owner, count(*) AS turns, min(lease_until) AS lease_until,
    min(started_at) AS oldest
FROM turnmill.turns WHERE {RUNNING_SQL}
GROUP BY 1 ORDER BY 1 LIMIT {MOST_WORKERS}
"""
_BATCHES = f"""
SELECT b.id, b.total, b.created_at, b.cancelled_at, b.last_line, b.state, b.ended_at
FROM turnmill.batches b WHERE b.id < %(after)s ORDER BY b.id DESC LIMIT {PAGE + 1}
"""
# What has ended is counted where it does; of the rest there is never much.
_OF_BATCHES = f"""
SELECT batch_id, CASE WHEN state = 'reused' THEN 'succeeded' WHEN state <> 'dropped' THEN state
        WHEN error_code IN ('cancelled', 'expired') THEN error_code ELSE 'failed' END AS state,
    sum(n) AS turns, sum(cost_usd) AS cost_usd, sum(unpriced) AS unpriced
FROM turnmill.batch_tallies WHERE batch_id = ANY(%(ids)s) GROUP BY 1, 2
UNION ALL
SELECT batch_id, state, count(batch_line), 0, 0 FROM turnmill.turns
WHERE batch_id = ANY(%(ids)s) AND batch_id IS NOT NULL AND {UNFINISHED_SQL} GROUP BY 1, 2
"""
_BATCH_STATES = "SELECT state, count(*) AS batches FROM turnmill.batches GROUP BY 1"
_JOBS = f"""
SELECT DISTINCT ON (name) name, slot, started_at, finished_at, result
FROM turnmill.job_runs ORDER BY name, slot DESC LIMIT {_MOST_JOBS}
"""
_LAST = UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Turns without a reply, of one state and code."""

    state: str
    code: str
    turns: int
    latest: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Turns that one worker process holds."""

    owner: str
    turns: int
    lease_until: datetime  #: of the oldest lease
    oldest: datetime | None  #: when the first of them began


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLook:
    """A batch: how far it is, and what it has cost."""

    id: UUID
    state: str  #: where it stands
    total: int | None  #: lines; None until every one stands
    created_at: datetime
    ended_at: datetime | None
    cancelled_at: datetime | None
    states: Mapping[str, int]
    cost_usd: Decimal | None  #: of the turns whose cost is known; None where none is
    unpriced: int  #: turns whose cost is not known

    @property
    def accepted(self) -> int:
        """Return how many turns there are."""
        return sum(self.states.values())

    @property
    def finished(self) -> int:
        """Return how many turns are final."""
        return sum(turns for state, turns in self.states.items() if state in FINAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLook:
    """The last run of a job of upkeep."""

    name: str
    slot: datetime
    started_at: datetime
    finished_at: datetime | None
    #: what it counted, or the code of what stood in its way
    result: Mapping[str, Any] | None = field(repr=False)


def ended(conn: Connection) -> list[Ended]:
    """Return how many turns failed or are dead, by code, the most frequent first."""
    return [
        Ended(state=row.state, code=row.code, turns=row.turns, latest=_utc(row.latest))
        for row in execute(conn, _CODES)
    ]


def holders(conn: Connection) -> list[Holder]:
    """Return who holds how many turns that run."""
    return [
        Holder(
            owner=row.owner,
            turns=row.turns,
            lease_until=row.lease_until.astimezone(UTC),
            oldest=_utc(row.oldest),
        )
        for row in execute(conn, _HOLDERS)
    ]


def batches(conn: Connection, *, after: UUID | None = None) -> tuple[list[BatchLook], UUID | None]:
    """Return the newest batches, and after which one the next page begins; None on the last."""
    rows = execute(conn, _BATCHES, {"after": after or _LAST}).all()
    counted = _counted(conn, [row.id for row in rows[:PAGE]])
    found = [_batch(row, counted.get(row.id, [])) for row in rows[:PAGE]]
    return found, found[-1].id if len(rows) > PAGE else None


def batch_states(conn: Connection) -> Mapping[str, int]:
    """Return how many batches there are in each state."""
    return {row.state: row.batches for row in execute(conn, _BATCH_STATES)}


def jobs(conn: Connection) -> list[JobLook]:
    """Return the last run of every job."""
    return [
        JobLook(
            name=row.name,
            slot=row.slot.astimezone(UTC),
            started_at=row.started_at.astimezone(UTC),
            finished_at=_utc(row.finished_at),
            result=row.result if isinstance(row.result, dict) else None,
        )
        for row in execute(conn, _JOBS)
    ]


def _counted(conn: Connection, ids: Sequence[UUID]) -> dict[UUID, list[Any]]:
    found: dict[UUID, list[Any]] = {}
    if ids:
        for row in execute(conn, _OF_BATCHES, {"ids": list(ids)}):
            found.setdefault(row.batch_id, []).append(row)
    return found


def _batch(row: Any, counted: Sequence[Any]) -> BatchLook:
    cost = sum((one.cost_usd for one in counted), Decimal(0))
    unpriced = sum(int(one.unpriced) for one in counted)
    return BatchLook(
        id=row.id,
        state=row.state,
        total=row.total,
        created_at=row.created_at.astimezone(UTC),
        ended_at=_utc(row.ended_at),
        cancelled_at=_utc(row.cancelled_at),
        states={state: n for state in TurnState if (n := _of(counted, state))},
        cost_usd=cost or (None if unpriced else Decimal(0)),
        unpriced=unpriced,
    )


def _of(counted: Sequence[Any], state: str) -> int:
    return sum(int(one.turns) for one in counted if one.state == state)


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)
