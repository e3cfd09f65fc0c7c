"""What waits, and for what: counted by reason, listed, and each told in the words of `why`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from turnmill.domain.ids import TurnId
from turnmill.domain.states import (
    BETWEEN_STEPS,
    FOR_ACCOUNT,
    FOR_BATCH,
    FOR_BREAKER,
    FOR_BUDGET,
    FOR_LIMIT,
    OnAmbiguous,
    SessionStatus,
    TurnState,
)
from turnmill.store.nouns.why import Cause, Why, why_each
from turnmill.store.schema.metadata import sql_list
from turnmill.store.schema.tables import UNFINISHED_SQL
from turnmill.store.schema_name import execute

#: Groups that are told apart; layers may name anything.
MOST_GROUPS = 40
#: Turns of each group that are named.
NAMED = 3
#: Turns of a page.
PAGE = 25

_LANES = "ARRAY(SELECT name FROM turnmill.pauses WHERE kind = 'lane')"
_PROVIDERS = "ARRAY(SELECT name FROM turnmill.pauses WHERE kind = 'provider')"

#: What turns wait for that has a cause of its own; all else is what a layer has named.
_NAMED = BETWEEN_STEPS | {
    *(FOR_ACCOUNT, FOR_BREAKER, FOR_LIMIT, FOR_BUDGET, FOR_BATCH, Cause.KEY.value)
}

# As `why` judges, for many at once: what comes first there stands first here. What stands in the
# way of a turn that could run (others before it, no worker) is found out one by one.
_REASON = f"""
CASE
    WHEN t.id <> s.head_turn_id THEN '{Cause.BEHIND}'
    WHEN t.state = '{TurnState.RUNNING}' THEN '{Cause.RUNNING}'
    WHEN s.status = '{SessionStatus.PAUSED}' THEN '{Cause.SESSION_PAUSED}'
    WHEN s.head_lane = ANY({_LANES}) THEN '{Cause.LANE_PAUSED}'
    WHEN s.provider = ANY({_PROVIDERS}) THEN '{Cause.PROVIDER_PAUSED}'
    WHEN t.state = '{TurnState.UNKNOWN}' AND s.on_ambiguous = '{OnAmbiguous.HOLD}'
        AND t.sent_at IS NOT NULL THEN '{Cause.HELD}'
    WHEN t.available_at <= statement_timestamp() THEN '{Cause.DUE}'
    WHEN t.waits_for = '{FOR_BATCH}' AND t.parked_until > statement_timestamp()
        THEN '{Cause.BUDGET}'
    WHEN t.waits_for IN {sql_list(_NAMED)} THEN t.waits_for
    WHEN t.waits_for IS NOT NULL THEN '{Cause.LAYER}'
    WHEN t.state = '{TurnState.RETRYING}' THEN '{Cause.RETRY}'
    WHEN t.state = '{TurnState.WAITING}' THEN '{Cause.BACKGROUND}'
    WHEN t.state = '{TurnState.UNKNOWN}' THEN '{Cause.QUESTION}'
    ELSE '{Cause.LATER}'
END
"""
_NAME = f"""
CASE reason
    WHEN '{Cause.LANE_PAUSED}' THEN lane
    WHEN '{Cause.PROVIDER_PAUSED}' THEN provider
    WHEN '{Cause.LAYER}' THEN waits_for
    WHEN '{Cause.RETRY}' THEN coalesce(error_code, '')
    WHEN '{Cause.DUE}' THEN lane
    ELSE ''
END
"""
_COLUMNS = f"""
t.id, t.session_id, t.seq, t.state, t.created_at, t.waits_for, t.error_code, s.head_lane AS lane,
    s.provider, s.model, {_REASON} AS reason
"""
_HEADS = f"""
SELECT {_COLUMNS} FROM turnmill.sessions s JOIN turnmill.turns t ON t.id = s.head_turn_id
WHERE s.unfinished > 0 AND s.status <> '{SessionStatus.DELETED}'
"""
_GROUPS = f"""
SELECT reason, {_NAME} AS name, count(*) AS turns, min(created_at) AS oldest,
    (array_agg(id ORDER BY id))[1:{NAMED}] AS ids
FROM ({_HEADS}) AS heads
GROUP BY 1, 2 ORDER BY (reason = '{Cause.DUE}'), (reason = '{Cause.RUNNING}'), 3 DESC, 1, 2
LIMIT {MOST_GROUPS}
"""
_BEHIND = f"""
SELECT coalesce(sum(unfinished - 1), 0)::bigint FROM turnmill.sessions
WHERE unfinished > 1 AND status <> '{SessionStatus.DELETED}'
"""
_UNFINISHED = f"""
SELECT {_COLUMNS} FROM turnmill.turns t JOIN turnmill.sessions s ON s.id = t.session_id
WHERE {UNFINISHED_SQL.replace("state", "t.state", 1)} AND s.status <> '{SessionStatus.DELETED}'
    AND (t.session_id, t.seq) > (%(session)s, %(seq)s)
"""
_PAGE = f"""
SELECT *, {_NAME} AS name FROM ({_UNFINISHED}) AS unfinished
WHERE (%(reason)s::text IS NULL OR reason = %(reason)s)
    AND (%(name)s::text IS NULL OR {_NAME} = %(name)s)
ORDER BY session_id, seq LIMIT {PAGE + 1}
"""
_FIRST = UUID(int=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A turn that is not final."""

    id: UUID
    session_id: UUID
    seq: int
    state: str
    lane: str
    provider: str
    model: str
    created_at: datetime
    reason: str  #: the first thing that stands in its way; one of `Cause`
    name: str  #: of the lane, the provider or what a layer named; the code of an error
    why: Why | None = None  #: None: it is gone meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Turns that wait for the same thing."""

    reason: str
    name: str
    turns: int
    oldest: datetime | None  #: when the first of them was accepted
    named: Sequence[Why]  #: the first few


def groups(conn: Connection) -> list[Group]:
    """Return what the heads of all lines wait for, and how many turns stand behind them."""
    rows = execute(conn, _GROUPS).all()
    told = why_each(conn, [TurnId(one) for row in rows for one in row.ids], sees_settings=False)
    found = [
        Group(
            reason=row.reason,
            name=row.name,
            turns=row.turns,
            oldest=row.oldest.astimezone(UTC),
            named=[told[one] for one in row.ids if one in told],
        )
        for row in rows
    ]
    behind: int = execute(conn, _BEHIND).scalar_one()
    return [*found, _those_behind(conn, behind)] if behind else found


def page(
    conn: Connection,
    *,
    reason: str | None = None,
    name: str | None = None,
    after: tuple[UUID, int] | None = None,
) -> tuple[list[Waiting], tuple[UUID, int] | None]:
    """Return turns that are not final, by the age of their session, and where the next page begins.

    That is None on the last page.
    """
    session, seq = after or (_FIRST, 0)
    wanted = {"reason": reason, "name": name, "session": session, "seq": seq}
    rows = execute(conn, _PAGE, wanted).all()
    told = why_each(conn, [TurnId(row.id) for row in rows[:PAGE]], sees_settings=False)
    found = [_waiting(row, told.get(row.id)) for row in rows[:PAGE]]
    last = (found[-1].session_id, found[-1].seq) if len(rows) > PAGE else None
    return found, last


def _those_behind(conn: Connection, turns: int) -> Group:
    wanted = {"reason": Cause.BEHIND.value, "name": None, "session": _FIRST, "seq": 0}
    rows = execute(conn, _PAGE, wanted).all()[:NAMED]
    return Group(
        reason=Cause.BEHIND,
        name="",
        turns=turns,
        oldest=min((row.created_at.astimezone(UTC) for row in rows), default=None),
        named=list(why_each(conn, [TurnId(row.id) for row in rows], sees_settings=False).values()),
    )


def _waiting(row: Any, told: Why | None) -> Waiting:
    names = [name for name in Waiting.__dataclass_fields__ if name not in ("why", "created_at")]
    return Waiting(
        **{name: getattr(row, name) for name in names},
        created_at=row.created_at.astimezone(UTC),
        why=told,
    )
