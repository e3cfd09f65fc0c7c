"""Steps on Postgres: each move is one statement, and the fence stands in it."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Integer, Text, Uuid, column, literal, select, table

from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import WAITING_CALLS, Effects, TurnState
from turnmill.store.postgres import charging
from turnmill.store.postgres.rendering import part, sets, typed
from turnmill.store.records import Fenced, Locked
from turnmill.store.rules.accepting import in_json
from turnmill.store.rules.riders import sealed_rows
from turnmill.store.rules.sealing import sealer_for, sealer_of_turns
from turnmill.store.rules.settling import FIELDS, row_of, writing_content
from turnmill.store.rules.stepping import (
    END,
    OF_ATTEMPT,
    OF_SESSION,
    OF_TURN,
    RIDERS,
    end_of,
)
from turnmill.store.schema.metadata import sql_list
from turnmill.store.schema.tables import STILL_RUNNING, attempts, sessions, turns
from turnmill.store.schema_name import execute
from turnmill.store.step_records import Advanced, CallEnd, Step, ToBegin

_T, _A, _S = turns.alias("t").c, attempts.alias("a").c, sessions.alias("s").c
_V = table("v", *(column(field.name, field.type) for field in FIELDS)).c
_TURN = table(
    "turn",
    column("id", Uuid()),
    column("session_id", Uuid()),
    column("state", Text()),
    column("step", Integer()),
)
_RUNNING = literal(TurnState.RUNNING.value)
_WAITING = sql_list(frozenset(WAITING_CALLS))

# As in settling: a session whose row is newer than this statement's snapshot counts as busy. Who
# has asked for the end of the turn gets it: the verdict is written instead.
_MONEY, _PAID_TOO = "<money>", "<paid>"
_STATEMENT = f"""
WITH step AS (
    SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb)
        AS v ({typed({field.name: field.type for field in FIELDS})})
), line AS (
    SELECT id, xmin AS version FROM turnmill.sessions WHERE id = ANY(%(session_ids)s::uuid[])
    ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
), mine AS (
    SELECT s.id, clock_timestamp() AS now
    FROM line JOIN turnmill.sessions s ON s.id = line.id AND s.xmin = line.version
), turn AS (
    UPDATE turnmill.turns t SET
        {sets(OF_TURN, _T, _V)}
    FROM step v JOIN mine ON mine.id = v.session_id
    WHERE t.id = v.turn_id AND {STILL_RUNNING} AND t.lease_fence = v.fence
        AND NOT t.cancel_requested
    RETURNING t.id, t.session_id, t.state, t.lease_fence, t.step, t.attempt,
        t.claims - t.put_off AS n, t.lease_owner, mine.now
), ended AS (
    UPDATE turnmill.attempts a SET ended_at = turn.now,
        {sets(OF_ATTEMPT, _A, _V, _RUNNING)}
    FROM turn JOIN step v ON v.turn_id = turn.id
    WHERE a.turn_id = turn.id AND a.fence = v.fence
    RETURNING a.turn_id, a.provider, a.asked_model
), begun AS (
    INSERT INTO turnmill.attempts
        (turn_id, fence, n, kind, worker, step, started_at, provider, asked_model)
    SELECT id, lease_fence, n, 'send', lease_owner, step, now, ended.provider, ended.asked_model
    FROM turn LEFT JOIN ended ON ended.turn_id = turn.id
), session AS (
    UPDATE turnmill.sessions s SET
        {sets(OF_SESSION, _S, _V, _RUNNING)}
    FROM turn JOIN step v ON v.turn_id = turn.id WHERE s.id = turn.session_id
), {"".join(part(one, turn=_TURN) for one in RIDERS)}{_MONEY}mine_too AS (SELECT id FROM mine)
SELECT session_id, id, lease_fence, step, attempt, n FROM turn{_PAID_TOO}
UNION ALL
SELECT id, NULL, NULL, NULL, NULL, NULL
FROM mine_too WHERE id NOT IN (SELECT session_id FROM turn)
"""
_ADVANCE = _STATEMENT.replace(_MONEY, "").replace(_PAID_TOO, "")
_ADVANCE_PAID = _STATEMENT.replace(_MONEY, charging.part(verdicts="step")).replace(
    _PAID_TOO, charging.PAID_TOO
)
# Whose claim it is says the turn's row, which is locked as heartbeats do: its newest version.
_HELD = """
    SELECT t.id, t.lease_fence FROM (SELECT DISTINCT turn_id, fence FROM told) AS o
    JOIN turnmill.turns t ON t.id = o.turn_id AND t.lease_fence = o.fence AND t.state = 'running'{}
    ORDER BY t.id FOR NO KEY UPDATE OF t
"""
# The receipt's own row is where two workers meet: one of them moves it on, and runs the call.
_BEGIN = f"""
WITH told AS (
    SELECT * FROM unnest(%(turn_ids)s::uuid[], %(fences)s::bigint[], %(positions)s::integer[])
        AS told (turn_id, fence, position)
), held AS ({_HELD.format(" AND NOT t.cancel_requested")})
UPDATE turnmill.tool_calls c SET state = 'running', fence = told.fence,
    runs = c.runs + CASE WHEN c.state = 'running' AND c.fence = told.fence THEN 0 ELSE 1 END,
    started_at = clock_timestamp()
FROM told JOIN held ON held.id = told.turn_id AND held.lease_fence = told.fence
WHERE c.turn_id = told.turn_id AND c.position = told.position AND (c.state = 'pending' OR
    c.state = 'running' AND (c.fence = told.fence OR c.effects <> '{Effects.AT_MOST_ONCE}'))
RETURNING c.turn_id, c.position
"""
_END = f"""
WITH told AS (
    SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb) AS told ({typed(END)})
), held AS ({_HELD.format("")}), receipt AS (
    UPDATE turnmill.tool_calls c SET state = told.state, error_code = told.error_code,
        ended_at = clock_timestamp()
    FROM told JOIN held ON held.id = told.turn_id AND held.lease_fence = told.fence
    WHERE c.turn_id = told.turn_id AND c.position = told.position AND CASE told.state
        WHEN 'unknown' THEN c.state = 'running' AND c.fence <> told.fence
        WHEN 'expired' THEN c.state IN {_WAITING} AND c.expires_at <= clock_timestamp()
        ELSE c.state = 'pending' OR c.state = 'running' AND c.fence = told.fence END
    RETURNING c.turn_id, c.session_id, c.position, told.id, told.content
), message AS (
    INSERT INTO turnmill.messages (id, session_id, turn_id, position, role, content)
    SELECT id, session_id, turn_id, position, 'tool', content FROM receipt
)
SELECT turn_id, position FROM receipt
"""


def advance(conn: Connection, steps: Sequence[Step]) -> list[Advanced | Fenced | Locked]:
    """Write steps, at most one for each session, in one statement."""
    settlements = [one.settlement for one in steps]
    session_ids = [one.session_id for one in settlements]
    sealer = sealer_for(conn, writing_content(settlements))
    parameters = {
        "rows": in_json([row_of(one, sealer) for one in settlements]),
        "session_ids": session_ids,
        **{
            rider.name: in_json(
                [
                    {"turn_id": one.settlement.turn_id, **row}
                    for one in steps
                    for row in sealed_rows(rider, one, one.settlement, sealer)
                ]
            )
            for rider in RIDERS
        },
    }
    paid = any(one.budgeted for one in settlements)
    found = execute(conn, _ADVANCE_PAID if paid else _ADVANCE, parameters).all()
    done = {TurnId(row[1]): _advanced(row) for row in found if row[1] is not None}
    seen = {SessionId(row[0]) for row in found}
    busy = _still_there(conn, set(session_ids) - seen)
    return [
        done.get(one.turn_id) or (Locked if one.session_id in busy else Fenced)(turn_id=one.turn_id)
        for one in settlements
    ]


def _advanced(row: Any) -> Advanced:
    return Advanced(turn_id=TurnId(row[1]), fence=row[2], step=row[3], attempt=row[4], n=row[5])


def _still_there(conn: Connection, passed_over: set[SessionId]) -> set[SessionId]:
    if not passed_over:
        return set()
    rows = conn.scalars(select(sessions.c.id).where(sessions.c.id.in_(passed_over)))
    return {SessionId(one) for one in rows}


def begin_calls(conn: Connection, calls: Sequence[ToBegin]) -> set[tuple[TurnId, int]]:
    """Note that these are about to be run; return (turn, position) of those that may be."""
    parameters = {
        "turn_ids": [one.turn_id for one in calls],
        "fences": [one.fence for one in calls],
        "positions": [one.position for one in calls],
    }
    return {(TurnId(row[0]), row[1]) for row in execute(conn, _BEGIN, parameters)}


def end_calls(conn: Connection, ends: Sequence[CallEnd]) -> set[tuple[TurnId, int]]:
    """Write what became of these; return (turn, position) of those that stand."""
    sealer = sealer_of_turns(conn, {one.turn_id for one in ends})
    rows = in_json([end_of(one, sealer) for one in ends])
    return {(TurnId(row[0]), row[1]) for row in execute(conn, _END, {"rows": rows})}
