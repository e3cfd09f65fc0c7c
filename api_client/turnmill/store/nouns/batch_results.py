"""What the lines of a batch came to, in the order of the file."""

from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Select, and_, func, null, select

from turnmill.domain.batches import LineState
from turnmill.domain.errors import BatchPurged, DataKeyMissing, UnreadableRow
from turnmill.domain.ids import BatchId, SessionId, TurnId
from turnmill.domain.states import TurnState
from turnmill.store.batch_records import BatchResult
from turnmill.store.codec import parts_from
from turnmill.store.nouns.answering import answered_because, answered_by
from turnmill.store.readable import ODD, read_page
from turnmill.store.schema.batch_tables import batch_lines
from turnmill.store.schema.tables import batches, messages, sessions, turns
from turnmill.store.vaults import plain

_OF_TURN = (
    turns.c.id.label("turn_id"),
    *(turns.c[name] for name in ("session_id", "state", "error_code", "finish_reason")),
    *(turns.c[name] for name in ("input_tokens", "output_tokens", "cached_tokens", "cost_usd")),
    *(turns.c.attempt, turns.c.finished_at, sessions.c.model),
    *(answered_by(), answered_because(), sessions.c.settings["api"].as_string().label("api")),
)


def results(
    conn: Connection, batch_id: BatchId, *, after_line: int = 0, limit: int = 500
) -> list[BatchResult]:
    """Return what up to `limit` lines after that one came to, in the order of the file.

    Raises BatchPurged where their time was over.
    """
    purged = select(batches.c.purged_at).where(batches.c.id == batch_id)
    if conn.scalar(purged) is not None:
        raise BatchPurged()
    staged = select(batch_lines.c.line).where(batch_lines.c.batch_id == batch_id).limit(1)
    has_lines = conn.execute(staged).first() is not None
    query = _by_line(batch_id, after_line) if has_lines else _by_turn(batch_id, after_line)
    by = batch_lines.c.line if has_lines else turns.c.batch_line
    return read_page(conn, query, _result, by=by, limit=limit, newest_first=False)


def _by_line(batch_id: BatchId, after_line: int) -> Select[Any]:
    line = batch_lines.c
    mine = and_(turns.c.batch_id == line.batch_id, turns.c.batch_line == line.line)
    answer = func.coalesce(turns.c.id, line.reused_from)
    return (
        select(
            *(line.line, line.custom_id, line.state.label("line_state")),
            *(line.error_code.label("line_error"), line.reused_from, messages.c.content),
            *_OF_TURN,
        )
        .join_from(batch_lines, turns, mine, isouter=True)
        .join(sessions, sessions.c.id == turns.c.session_id, isouter=True)
        .join(messages, and_(messages.c.turn_id == answer, messages.c.final), isouter=True)
        .where(line.batch_id == batch_id, line.line > after_line)
    )


def _by_turn(batch_id: BatchId, after_line: int) -> Select[Any]:
    """Return the same of a batch of before: its lines became turns as they were read."""
    return (
        select(
            *(turns.c.batch_line.label("line"), turns.c.custom_id),
            *(null().label("line_state"), null().label("line_error")),
            *(null().label("reused_from"), messages.c.content),
            *_OF_TURN,
        )
        .join_from(turns, sessions, sessions.c.id == turns.c.session_id)
        .join(messages, and_(messages.c.turn_id == turns.c.id, messages.c.final), isouter=True)
        .where(turns.c.batch_id == batch_id, turns.c.batch_line > after_line)
    )


def _result(row: Any) -> BatchResult:
    try:
        error_code = row.error_code or row.line_error
        parts = None if row.content is None else parts_from(plain(row.content))
    except DataKeyMissing as error:
        parts, error_code = None, error.code
    except ODD:
        parts, error_code = None, UnreadableRow.code
    reused = row.line_state == LineState.REUSED
    return BatchResult(
        line=row.line,
        custom_id=row.custom_id,
        turn_id=None if row.turn_id is None else TurnId(row.turn_id),
        session_id=None if row.session_id is None else SessionId(row.session_id),
        state=_state(row),
        parts=parts,
        input_tokens=0 if reused else row.input_tokens,
        output_tokens=0 if reused else row.output_tokens,
        cached_tokens=0 if reused else row.cached_tokens,
        cost_usd=Decimal(0) if reused else row.cost_usd,
        error_code=error_code,
        answered_by=row.answered_by,
        answered_because=row.answered_because,
        attempts=row.attempt or 0,
        finish_reason=row.finish_reason,
        model=row.model,
        finished_at=row.finished_at,
        api=row.api,
        reused=reused,
    )


def _state(row: Any) -> TurnState | None:
    """Return the state of its turn; of a line without one, what that means."""
    if row.state is not None:
        return TurnState(row.state)
    if row.line_state == LineState.REUSED:
        return TurnState.SUCCEEDED
    if row.line_state == LineState.DROPPED:
        ended = {one.value: one for one in (TurnState.CANCELLED, TurnState.EXPIRED)}
        return ended.get(row.line_error, TurnState.FAILED)
    return None
