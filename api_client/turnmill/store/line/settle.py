"""Settling attempts: reply, usage, state and the next head of the line, in one commit."""

import json
from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, and_, func, insert, select, update

from turnmill.domain.bounds import LONGEST_DELAY
from turnmill.domain.errors import UnreadableRow
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import CLAIMABLE, FINAL, UNFINISHED, Lane, TurnState
from turnmill.store.kept import KEEP, keep
from turnmill.store.line.accept import text_parts
from turnmill.store.line.head import head_columns, status_after_failure
from turnmill.store.records import Fenced, Head, Kept, Locked, Settled, Settlement
from turnmill.store.schema.tables import (
    STILL_RUNNING,
    attempts,
    messages,
    sessions,
    sql_list,
    turns,
)
from turnmill.store.schema_name import execute
from turnmill.store.types import db_after, db_asof, db_now
from turnmill.wire import SETTLED_CHANNEL

_FINAL = sql_list(frozenset(FINAL))
_UNFINISHED = sql_list(frozenset(UNFINISHED))
_DUE = sql_list(frozenset(CLAIMABLE - {TurnState.UNKNOWN}))

#: A turn that is given back goes to where it was claimed from: a question is not a call, and must
#: not become one because the worker that asked it ends.
_GIVEN_BACK = {"check": TurnState.UNKNOWN, "resume": TurnState.WAITING}

# Where what vendors keep is put in, if a group brings any.
_TOLD = "told AS ("

# One statement, so its snapshot is older than its locks. Whoever moves a turn updates the row of
# its session; a lock brings that row's newest version, and `xmin` tells it from the one in the
# snapshot. Where they differ the line has moved: the session is left out as if it were busy.
_SETTLE = f"""
WITH verdict AS (
    SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb) AS v (
        turn_id uuid, session_id uuid, message_id uuid, fence bigint, state text, outcome text,
        gives_attempt_back boolean, delay double precision, reply jsonb, finish_reason text,
        provider_ref text, native_ref text, request_id text, model text, error_code text,
        error_detail text, input_tokens bigint, output_tokens bigint, cached_tokens bigint,
        cost_usd numeric, priced boolean, provider_ms integer, kept jsonb)
), line AS (
    SELECT id, xmin AS version FROM turnmill.sessions WHERE id = ANY(%(session_ids)s::uuid[])
    ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
), mine AS (
    SELECT s.id FROM line JOIN turnmill.sessions s ON s.id = line.id AND s.xmin = line.version
), turn AS (
    UPDATE turnmill.turns t SET
        state = CASE WHEN t.cancel_requested THEN 'cancelled'
            WHEN v.state = 'queued' AND t.claimed_for = 'check' THEN 'unknown'
            WHEN v.state = 'queued' AND t.claimed_for = 'resume' THEN 'waiting'
            ELSE v.state END,
        attempt = t.attempt
            - CASE WHEN v.gives_attempt_back AND t.claimed_for = 'send' THEN 1 ELSE 0 END,
        available_at = clock_timestamp() + make_interval(secs => v.delay),
        lease_owner = NULL, lease_until = NULL,
        native_ref = CASE WHEN v.state = 'queued' THEN t.native_ref ELSE v.native_ref END,
        error_code = CASE WHEN t.cancel_requested THEN 'cancelled' ELSE v.error_code END,
        finish_reason = v.finish_reason,
        input_tokens = t.input_tokens + v.input_tokens,
        output_tokens = t.output_tokens + v.output_tokens,
        cached_tokens = t.cached_tokens + v.cached_tokens,
        cost_usd = CASE WHEN v.cost_usd IS NULL THEN t.cost_usd
            ELSE COALESCE(t.cost_usd, 0) + v.cost_usd END,
        finished_at = CASE WHEN t.cancel_requested OR v.state IN {_FINAL}
            THEN clock_timestamp() END
    FROM verdict v JOIN mine ON mine.id = v.session_id
    WHERE t.id = v.turn_id AND {STILL_RUNNING} AND t.lease_fence = v.fence
    RETURNING t.id, t.session_id, t.lease_fence, t.state, t.state IN {_FINAL} AS is_final, t.lane,
        t.lost, t.sent_at, t.available_at
), reply AS (
    INSERT INTO turnmill.messages (id, session_id, turn_id, position, role, content, final)
    SELECT v.message_id, turn.session_id, turn.id, 1, 'assistant', v.reply, true
    FROM turn JOIN verdict v ON v.turn_id = turn.id
    WHERE turn.state = 'succeeded'
), attempt AS (
    UPDATE turnmill.attempts a SET
        ended_at = clock_timestamp(),
        outcome = CASE WHEN turn.state = 'cancelled' THEN 'cancelled' ELSE v.outcome END,
        error_code = v.error_code, error_detail = v.error_detail,
        provider_request_id = v.request_id, model = v.model,
        input_tokens = a.input_tokens + v.input_tokens,
        output_tokens = a.output_tokens + v.output_tokens,
        cached_tokens = a.cached_tokens + v.cached_tokens,
        cost_usd = CASE WHEN v.cost_usd IS NULL THEN a.cost_usd
            ELSE COALESCE(a.cost_usd, 0) + v.cost_usd END,
        provider_ms = COALESCE(a.provider_ms, 0) + v.provider_ms
    FROM turn JOIN verdict v ON v.turn_id = turn.id
    WHERE a.turn_id = turn.id AND a.fence = turn.lease_fence
), session AS (
    UPDATE turnmill.sessions s SET
        unfinished = s.unfinished - CASE WHEN turn.is_final THEN 1 ELSE 0 END,
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
        ),
        status = CASE WHEN s.on_failure = 'pause' AND s.status = 'active'
            AND turn.state IN ('failed', 'dead') THEN 'paused' ELSE s.status END,
        provider_ref = CASE WHEN turn.state = 'cancelled' THEN s.provider_ref
            ELSE COALESCE(v.provider_ref, s.provider_ref) END,
        turns_succeeded = s.turns_succeeded
            + CASE WHEN turn.state = 'succeeded' THEN 1 ELSE 0 END,
        turns_failed = s.turns_failed
            + CASE WHEN turn.state IN ('failed', 'dead') THEN 1 ELSE 0 END,
        input_tokens = s.input_tokens + COALESCE(v.input_tokens, 0),
        output_tokens = s.output_tokens + COALESCE(v.output_tokens, 0),
        cost_usd = s.cost_usd + COALESCE(v.cost_usd, 0),
        unpriced_attempts = s.unpriced_attempts + CASE WHEN v.priced THEN 0 ELSE 1 END,
        last_active_at = clock_timestamp()
    FROM turn JOIN verdict v ON v.turn_id = turn.id
    WHERE s.id = turn.session_id
    RETURNING turn.id AS settled_id, turn.state, turn.is_final, turn.available_at,
        s.id AS session_id, s.head_turn_id, s.head_lane,
        s.head_due_at <= clock_timestamp() AND s.status = 'active' AS due
), {_TOLD}
    SELECT pg_notify('{SETTLED_CHANNEL}', string_agg(settled_id::text, ','))
    FROM session WHERE is_final HAVING count(*) > 0
)
SELECT session_id, settled_id, state, is_final, available_at, head_turn_id, head_lane, due
FROM session LEFT JOIN told ON pg_notify IS NOT NULL
UNION ALL
SELECT id, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM mine WHERE id NOT IN (SELECT session_id FROM session)
"""


def settle(
    conn: Connection, settlements: Sequence[Settlement], *, message_ids: Sequence[Any]
) -> list[Settled | Fenced | Locked]:
    """Write verdicts, at most one for each session, and tell what came of each, in order.

    The fence decides, never a clock: an owner frozen past its lease holds an old number, and its
    late answer changes nothing (Fenced). A session that another transaction holds, or has changed
    since the statement began, is passed over (Locked): give that settlement again. `message_ids`
    are ids for the replies. One statement, and its own transaction unless the caller began one.
    """
    if conn.dialect.name != "postgresql":
        return [
            _settle_stepwise(conn, settlement, message_id)
            for settlement, message_id in zip(settlements, message_ids, strict=True)
        ]
    session_ids = [one.session_id for one in settlements]
    rows = [
        _as_json(settlement, message_id)
        for settlement, message_id in zip(settlements, message_ids, strict=True)
    ]
    parameters = {"rows": json.dumps(rows), "session_ids": session_ids}
    statement = _SETTLE
    if any(one.kept for one in settlements):
        statement = statement.replace(_TOLD, f"{KEEP}, {_TOLD}")
    found = execute(conn, statement, parameters).all()
    done = {TurnId(row[1]): _settled(row) for row in found if row[1] is not None}
    busy = _still_open(conn, set(session_ids) - {SessionId(row[0]) for row in found})
    return [
        done.get(one.turn_id) or (Locked if one.session_id in busy else Fenced)(turn_id=one.turn_id)
        for one in settlements
    ]


def end_unreadable(conn: Connection, claimed: Sequence[tuple[TurnId, SessionId, int]]) -> None:
    """End turns as failed whose claimed rows, (turn, session, fence), nobody can read.

    A dispatcher announces the heads behind them.
    """
    verdicts = [
        Settlement(
            turn_id=turn_id,
            session_id=session_id,
            fence=fence,
            state=TurnState.FAILED,
            outcome="failed",
            error_code=UnreadableRow.code,
        )
        for turn_id, session_id, fence in claimed
    ]
    settle(conn, verdicts, message_ids=[one.turn_id for one in verdicts])  # none has a reply


def _still_open(conn: Connection, passed_over: Collection[SessionId]) -> set[SessionId]:
    """Return those of the sessions that were passed over because somebody else is at them.

    The others are gone, with the turn whose verdict this is: there is nothing to wait for.
    """
    if not passed_over:
        return set()
    rows = conn.scalars(select(sessions.c.id).where(sessions.c.id.in_(passed_over)))
    return {SessionId(one) for one in rows}


def was_settled(conn: Connection, turn_id: TurnId, fence: int) -> TurnState | None:
    """Return the turn's state if the attempt under this fence was settled by its owner."""
    outcome = conn.scalar(
        select(attempts.c.outcome).where(attempts.c.turn_id == turn_id, attempts.c.fence == fence)
    )
    if outcome is None or outcome == "lost":
        return None
    return TurnState(conn.scalars(select(turns.c.state).where(turns.c.id == turn_id)).one())


def _as_json(settlement: Settlement, message_id: Any) -> dict[str, Any]:
    return {
        "turn_id": str(settlement.turn_id),
        "session_id": str(settlement.session_id),
        "message_id": str(message_id),
        "fence": settlement.fence,
        "state": settlement.state,
        "outcome": settlement.outcome,
        "gives_attempt_back": settlement.gives_attempt_back,
        "delay": min(settlement.delay, LONGEST_DELAY).total_seconds(),
        "reply": None if settlement.reply is None else text_parts(settlement.reply),
        "finish_reason": settlement.finish_reason,
        "provider_ref": settlement.provider_ref,
        "native_ref": settlement.native_ref,
        "request_id": settlement.request_id,
        "model": settlement.model,
        "error_code": settlement.error_code,
        "error_detail": settlement.error_detail,
        "input_tokens": settlement.input_tokens,
        "output_tokens": settlement.output_tokens,
        "cached_tokens": settlement.cached_tokens,
        "cost_usd": None if settlement.cost_usd is None else str(settlement.cost_usd),
        "priced": settlement.priced,
        "provider_ms": settlement.provider_ms,
        "kept": [_kept_as_json(one) for one in settlement.kept] or None,
    }


def _kept_as_json(kept: Kept) -> dict[str, Any]:
    return {
        "ref": kept.ref,
        "provider": kept.provider,
        "stored": kept.stored,
        "running": kept.running,
        "wanted": kept.wanted,
    }


def _settled(row: Any) -> Settled:
    session_id, settled_id, state, is_final, available_at, head_id, lane, due = row
    head = (
        Head(turn_id=TurnId(head_id), session_id=SessionId(session_id), lane=Lane(lane))
        if head_id is not None and due
        else None
    )
    return Settled(
        turn_id=TurnId(settled_id),
        state=TurnState(state),
        due_at=None if is_final else available_at,
        next=head,
    )


def _settle_stepwise(
    conn: Connection, settlement: Settlement, message_id: Any
) -> Settled | Fenced | Locked:
    """Do the same in single steps; SQLite's write lock stands for the session's."""
    mine = (
        turns.c.id == settlement.turn_id,
        turns.c.state == TurnState.RUNNING,
        turns.c.lease_fence == settlement.fence,
    )
    turn = conn.execute(select(turns).where(*mine)).one_or_none()
    if turn is None:
        return Fenced(turn_id=settlement.turn_id)
    state = _state_after(turn, settlement)
    row = conn.execute(
        update(turns).where(*mine).values(**_turn_values(turn, settlement, state)).returning(turns)
    ).one()
    if state is TurnState.SUCCEEDED:
        conn.execute(
            insert(messages).values(
                id=message_id,
                session_id=settlement.session_id,
                turn_id=settlement.turn_id,
                position=1,
                role="assistant",
                content=text_parts(settlement.reply or ""),
                final=True,
            )
        )
    conn.execute(_attempt_update(settlement, state))
    keep(conn, settlement, cancelled=state is TurnState.CANCELLED)
    conn.execute(_session_update(settlement, state))
    head = conn.execute(
        select(
            sessions.c.head_turn_id,
            sessions.c.head_lane,
            and_(sessions.c.head_due_at <= db_asof(), sessions.c.status == "active").label("due"),
        ).where(sessions.c.id == settlement.session_id)
    ).one()
    return _settled(
        (
            settlement.session_id,
            row.id,
            state,
            state in FINAL,
            row.available_at,
            head.head_turn_id,
            head.head_lane,
            head.due,
        )
    )


def _state_after(turn: Row[Any], settlement: Settlement) -> TurnState:
    if turn.cancel_requested:
        return TurnState.CANCELLED
    if settlement.state is TurnState.QUEUED:
        return _GIVEN_BACK.get(turn.claimed_for, TurnState.QUEUED)
    return settlement.state


def _turn_values(turn: Row[Any], settlement: Settlement, state: TurnState) -> dict[str, Any]:
    released = settlement.state is TurnState.QUEUED
    back = settlement.gives_attempt_back and turn.claimed_for == "send"
    cost = turn.cost_usd
    if settlement.cost_usd is not None:
        cost = (cost or 0) + settlement.cost_usd
    return {
        "state": state,
        "attempt": turn.attempt - (1 if back else 0),
        "available_at": db_after(min(settlement.delay, LONGEST_DELAY).total_seconds()),
        "lease_owner": None,
        "lease_until": None,
        "native_ref": turn.native_ref if released else settlement.native_ref,
        "error_code": "cancelled" if state is TurnState.CANCELLED else settlement.error_code,
        "finish_reason": settlement.finish_reason,
        "input_tokens": _sum(turn.input_tokens, settlement.input_tokens),
        "output_tokens": _sum(turn.output_tokens, settlement.output_tokens),
        "cached_tokens": _sum(turn.cached_tokens, settlement.cached_tokens),
        "cost_usd": cost,
        "finished_at": db_now() if state in FINAL else None,
    }


def _sum(so_far: int | None, more: int | None) -> int | None:
    """Add as SQL does: what is unknown in part is unknown."""
    return None if so_far is None or more is None else so_far + more


def _attempt_update(settlement: Settlement, state: TurnState) -> Any:
    return (
        update(attempts)
        .where(attempts.c.turn_id == settlement.turn_id, attempts.c.fence == settlement.fence)
        .values(
            ended_at=db_now(),
            outcome="cancelled" if state is TurnState.CANCELLED else settlement.outcome,
            error_code=settlement.error_code,
            error_detail=settlement.error_detail,
            provider_request_id=settlement.request_id,
            model=settlement.model,
            input_tokens=attempts.c.input_tokens + settlement.input_tokens,
            output_tokens=attempts.c.output_tokens + settlement.output_tokens,
            cached_tokens=attempts.c.cached_tokens + settlement.cached_tokens,
            cost_usd=_with(attempts.c.cost_usd, settlement.cost_usd),
            provider_ms=func.coalesce(attempts.c.provider_ms, 0) + settlement.provider_ms,
        )
    )


def _with(spent: Any, cost: Decimal | None) -> Any:
    """Return what was spent and the cost, if that is known: an unknown one is never 0."""
    return spent if cost is None else func.coalesce(spent, 0) + cost


def _session_update(settlement: Settlement, state: TurnState) -> Any:
    failed = state in (TurnState.FAILED, TurnState.DEAD)
    values: dict[str, Any] = {
        "unfinished": sessions.c.unfinished - (1 if state in FINAL else 0),
        "turns_succeeded": sessions.c.turns_succeeded + (state is TurnState.SUCCEEDED),
        "turns_failed": sessions.c.turns_failed + (1 if failed else 0),
        "input_tokens": sessions.c.input_tokens + (settlement.input_tokens or 0),
        "output_tokens": sessions.c.output_tokens + (settlement.output_tokens or 0),
        "cost_usd": sessions.c.cost_usd + (settlement.cost_usd or 0),
        "unpriced_attempts": sessions.c.unpriced_attempts + (0 if settlement.priced else 1),
        "last_active_at": db_now(),
        **head_columns(),
    }
    if settlement.provider_ref is not None and state is not TurnState.CANCELLED:
        values["provider_ref"] = settlement.provider_ref
    if failed:
        values["status"] = status_after_failure()
    return update(sessions).where(sessions.c.id == settlement.session_id).values(**values)
