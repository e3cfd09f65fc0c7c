"""Settling on Postgres: a group of verdicts in one statement, built once from what is declared."""

from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Boolean, Connection, Text, Uuid, column, select, table, update

from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import CLAIMABLE, FINAL, UNFINISHED, EventKind, TurnState
from turnmill.store.postgres import charging
from turnmill.store.postgres.rendering import part, rendered, sets, typed
from turnmill.store.records import Fenced, Locked, Settled, Settlement
from turnmill.store.rules.accepting import in_json
from turnmill.store.rules.closed_calls import closed_call, is_closed_by
from turnmill.store.rules.endings import COUNTED_SQL, ENDED_SQL, pausing, telling
from turnmill.store.rules.heads import settled
from turnmill.store.rules.riders import RIDERS, Rider, sealed_rows
from turnmill.store.rules.sealing import Sealer, sealer_for
from turnmill.store.rules.settling import (
    FIELDS,
    OF_ATTEMPT,
    OF_SESSION,
    OF_TURN,
    row_of,
    writing_content,
)
from turnmill.store.rules.tallies import OF_TURN_SQL, TALLY_SQL
from turnmill.store.rules.wanted import wanted
from turnmill.store.schema.metadata import sql_list
from turnmill.store.schema.step_tables import tool_calls
from turnmill.store.schema.tables import STILL_RUNNING, attempts, sessions, turns
from turnmill.store.schema_name import execute

_FINAL = sql_list(frozenset(FINAL))
_UNFINISHED = sql_list(frozenset(UNFINISHED))
_DUE = sql_list(frozenset(CLAIMABLE - {TurnState.UNKNOWN}))

#: What else a verdict may come to that somebody may want to hear of.
_UNENDED = (TurnState.WAITING.value, TurnState.RETRYING.value)
#: A session may be paused by these.
_FAILED = (TurnState.FAILED, TurnState.DEAD)

_T, _A, _S = turns.alias("t").c, attempts.alias("a").c, sessions.alias("s").c
_V = table("v", *(column(field.name, field.type) for field in FIELDS)).c
_TURN = table(
    "turn",
    column("id", Uuid()),
    column("session_id", Uuid()),
    column("state", Text()),
    column("keep_partial", Boolean()),
)
_STATE = _TURN.c.state

_VERDICT = typed({field.name: field.type for field in FIELDS})
_RIDERS, _CALLS, _MONEY, _PAID_TOO = "<riders>", "<calls>", "<money>", "<paid>"
_OF_BATCH, _TALLY = "<of batch>", "<tally>"

# One statement, so its snapshot is older than its locks. Whoever moves a turn updates the row of
# its session; a lock brings that row's newest version, and `xmin` tells it from the one in the
# snapshot. Where they differ the line has moved: the session is left out as if it were busy.
_STATEMENT = f"""
WITH verdict AS (
    SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb) AS v ({_VERDICT})
), line AS (
    SELECT id, xmin AS version FROM turnmill.sessions WHERE id = ANY(%(session_ids)s::uuid[])
    ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
), mine AS (
    SELECT s.id FROM line JOIN turnmill.sessions s ON s.id = line.id AND s.xmin = line.version
), turn AS (
    UPDATE turnmill.turns t SET
        {sets(OF_TURN, _T, _V)}
    FROM verdict v JOIN mine ON mine.id = v.session_id
    WHERE t.id = v.turn_id AND {STILL_RUNNING} AND t.lease_fence = v.fence
    RETURNING t.id, t.session_id, t.lease_fence, t.state, t.state IN {_FINAL} AS is_final, t.lane,
        t.lost, t.sent_at, t.available_at, t.keep_partial{_OF_BATCH}
), {_TALLY}attempt AS (
    UPDATE turnmill.attempts a SET
        {sets(OF_ATTEMPT, _A, _V, _STATE)}
    FROM turn JOIN verdict v ON v.turn_id = turn.id
    WHERE a.turn_id = turn.id AND a.fence = turn.lease_fence
), session AS (
    UPDATE turnmill.sessions s SET
        {sets(OF_SESSION, _S, _V, _STATE)},
        {COUNTED_SQL},
        (head_turn_id, head_lane, head_due_at) = (
            SELECT next.id, CASE WHEN next.lost > 0 THEN 'quarantine' ELSE next.lane END,
                next.due_at
            FROM (
                (SELECT o.id, o.lane, o.lost, CASE WHEN o.state IN {_DUE} THEN o.available_at END
                FROM turnmill.turns o
                WHERE turn.is_final AND o.session_id = turn.session_id
                    AND o.state IN {_UNFINISHED} AND o.id <> turn.id
                ORDER BY o.seq LIMIT 1)
                UNION ALL
                SELECT turn.id, turn.lane, turn.lost, CASE WHEN NOT (turn.state = 'unknown'
                    AND turn.sent_at IS NOT NULL AND s.on_ambiguous = 'hold')
                    THEN turn.available_at END
                WHERE NOT turn.is_final
            ) AS next (id, lane, lost, due_at)
        )
    FROM turn JOIN verdict v ON v.turn_id = turn.id
    WHERE s.id = turn.session_id
    RETURNING turn.id AS settled_id, turn.state, turn.is_final, turn.available_at,
        s.id AS session_id, s.events, s.head_turn_id, s.head_lane,
        s.head_due_at <= clock_timestamp() AND s.status = 'active' AS due
), {_RIDERS}{_CALLS}{_MONEY}{ENDED_SQL}
SELECT session_id, settled_id, state, is_final, available_at, head_turn_id, head_lane, due
FROM session LEFT JOIN told ON pg_notify IS NOT NULL{_PAID_TOO}
UNION ALL
SELECT id, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM mine WHERE id NOT IN (SELECT session_id FROM session)
"""


def _with(riders: Iterable[Rider], *, calls: str = "", money: str = "") -> dict[bool, str]:
    """Return the statement as it is, and, by True, as it counts the endings of batches' turns."""
    brought = "".join(part(one, turn=_TURN) for one in riders)
    whole = _STATEMENT.replace(_RIDERS, brought).replace(_CALLS, calls).replace(_MONEY, money)
    whole = whole.replace(_PAID_TOO, charging.PAID_TOO if money else "")
    counted = {False: ("", ""), True: (OF_TURN_SQL, TALLY_SQL)}
    return {
        batched: whole.replace(_OF_BATCH, told).replace(_TALLY, tally)
        for batched, (told, tally) in counted.items()
    }


_CLOSED = rendered(
    update(tool_calls)
    .where(tool_calls.c.turn_id == _TURN.c.id, *is_closed_by(_STATE))
    .values(closed_call(_STATE))
)
_CLOSING = f"closed AS (\n{_CLOSED}\n), "
_PAYING = charging.part(verdicts="verdict")
#: With what most verdicts bring, with all that any may bring, and with the end of open calls.
_SETTLE = _with(rider for rider in RIDERS if rider.always)
_SETTLE_ALL = _with(RIDERS)
_SETTLE_STEPPED = _with(RIDERS, calls=_CLOSING)
#: The first and the last of them with what becomes of reservations.
_SETTLE_PAID = _with((rider for rider in RIDERS if rider.always), money=_PAYING)
_SETTLE_PAID_STEPPED = _with(RIDERS, calls=_CLOSING, money=_PAYING)


def settle(conn: Connection, settlements: Sequence[Settlement]) -> list[Settled | Fenced | Locked]:
    """Write verdicts, at most one for each session, in one statement."""
    session_ids = [one.session_id for one in settlements]
    sealer = sealer_for(conn, writing_content(settlements))
    brought = {rider.name: _brought(rider, settlements, sealer) for rider in RIDERS}
    kinds = wanted(conn)
    chosen = _statement(
        every=any(brought[rider.name] for rider in RIDERS if not rider.always),
        stepped=any(one.has_calls for one in settlements),
        paid=any(one.budgeted for one in settlements),
    )[any(one.batched for one in settlements)]
    statement = _telling(chosen, tuple(one for one in _UNENDED if f"turn.{one}" in kinds))
    if EventKind.PAUSED in kinds and any(one.state in _FAILED for one in settlements):
        statement = _pausing(statement)
    parameters = {
        "rows": in_json([row_of(one, sealer) for one in settlements]),
        "session_ids": session_ids,
        **{name: in_json(rows) for name, rows in brought.items()},
    }
    found = execute(conn, statement, parameters).all()
    done = {TurnId(row[1]): settled(row) for row in found if row[1] is not None}
    busy = _still_open(conn, set(session_ids) - {SessionId(row[0]) for row in found})
    return [
        done.get(one.turn_id) or (Locked if one.session_id in busy else Fenced)(turn_id=one.turn_id)
        for one in settlements
    ]


@cache
def _pausing(statement: str) -> str:
    return pausing(statement)


@cache
def _telling(statement: str, states: Sequence[str]) -> str:
    return telling(statement, states)


def _statement(*, every: bool, stepped: bool, paid: bool) -> dict[bool, str]:
    if paid:
        return _SETTLE_PAID_STEPPED if every or stepped else _SETTLE_PAID
    if stepped:
        return _SETTLE_STEPPED
    return _SETTLE_ALL if every else _SETTLE


def _brought(
    rider: Rider, settlements: Sequence[Settlement], sealer: Sealer | None
) -> list[dict[str, Any]]:
    return [
        {"turn_id": settlement.turn_id, **row}
        for settlement in settlements
        for row in sealed_rows(rider, settlement, settlement, sealer)
    ]


def _still_open(conn: Connection, passed_over: Collection[SessionId]) -> set[SessionId]:
    """Return those of the sessions that were passed over because somebody else is at them.

    The others are gone, with the turn whose verdict this is: there is nothing to wait for.
    """
    if not passed_over:
        return set()
    rows = conn.scalars(select(sessions.c.id).where(sessions.c.id.in_(passed_over)))
    return {SessionId(one) for one in rows}
