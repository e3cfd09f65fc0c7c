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
SELECT b.id, b.total, b.created_at, b.cancelled_at, b.last_line
FROM turnmill.batches b WHERE b.id < %(after)s ORDER BY b.id DESC LIMIT {PAGE + 1}
"""
_OF_BATCHES = """
SELECT batch_id, state, count(*) AS turns, sum(cost_usd) AS cost_usd,
    count(*) FILTER (WHERE cost_usd IS NULL AND attempt > 0) AS unpriced
FROM turnmill.turns WHERE batch_id = ANY(%(ids)s) GROUP BY 1, 2
"""
_BATCH_STATES = f"""
SELECT CASE WHEN b.cancelled_at IS NOT NULL THEN 'cancelled' WHEN b.total IS NULL THEN 'submitting'
    WHEN o.batch_id IS NOT NULL THEN 'running' ELSE 'done' END AS state, count(*) AS batches
FROM turnmill.batches b LEFT JOIN (
    SELECT DISTINCT batch_id FROM turnmill.turns WHERE {UNFINISHED_SQL} AND batch_id IS NOT NULL
) AS o ON o.batch_id = b.id GROUP BY 1
"""
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
    total: int | None  #: None until every line was accepted
    created_at: datetime
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

    @property
    def state(self) -> str:
        """Return where it stands."""
        if self.cancelled_at is not None:
            return "cancelled"
        if self.total is None:
            return "submitting"
        return "done" if self.finished >= self.accepted else "running"


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
    costs = [one.cost_usd for one in counted if one.cost_usd is not None]
    return BatchLook(
        id=row.id,
        total=row.total,
        created_at=row.created_at.astimezone(UTC),
        cancelled_at=_utc(row.cancelled_at),
        states={state: n for state in TurnState if (n := _of(counted, state))},
        cost_usd=sum(costs, Decimal(0)) if costs else None,
        unpriced=sum(one.unpriced for one in counted),
    )


def _of(counted: Sequence[Any], state: str) -> int:
    return sum(int(one.turns) for one in counted if one.state == state)


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)
