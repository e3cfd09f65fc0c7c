"""What became of each turn of a trial, beside what it was: read in pages."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, select

from turnmill.domain.analytics.judging import JudgeVerdict
from turnmill.domain.content import text_of
from turnmill.domain.errors import DataKeyMissing, UnreadableRow
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import FINAL, TurnState
from turnmill.store.codec import parts_from
from turnmill.store.nouns.answering import answered_by
from turnmill.store.readable import ODD, readable
from turnmill.store.schema.batch_tables import batch_lines
from turnmill.store.schema.tables import attempts, messages, sessions, turns
from turnmill.store.schema.trial_tables import trial_lines
from turnmill.store.trial_records import TrialRecord, TrialResult, TrialSide
from turnmill.store.vaults import plain

_line = trial_lines.c
_SAID = ("turn_id", "verdict", "agreement", "preferred", "swayed", "user_id", "line")
_USED = ("session_id", "state", "cost_usd", "input_tokens", "output_tokens", "error_code")


def results(
    conn: Connection, trial: TrialRecord, *, after: int = 0, limit: int = 200
) -> list[TrialResult]:
    """Return what up to `limit` lines after that one came to, in their order."""
    mine = and_(batch_lines.c.batch_id == trial.batch_id, batch_lines.c.line == _line.line)
    rows = conn.execute(
        select(
            *(_line[name] for name in _SAID),
            _line.error_code.label("judge_error"),
            batch_lines.c.turn_id.label("copy_id"),
            batch_lines.c.error_code,
        )
        .join(batch_lines, mine, isouter=True)
        .where(_line.trial_id == trial.id, _line.line > after)
        .order_by(_line.line)
        .limit(limit)
    ).all()
    ids = {row.turn_id for row in rows} | {row.copy_id for row in rows if row.copy_id is not None}
    sides = sides_of(conn, list(ids))
    return [_result(row, sides) for row in rows]


def sides_of(conn: Connection, turn_ids: Sequence[Any]) -> Mapping[Any, TrialSide]:
    """Return how turns were answered that have ended, by their ids."""
    rows = conn.execute(
        select(
            turns.c.id,
            *(turns.c[name] for name in _USED),
            answered_by(),
            (sessions.c.provider + "/" + sessions.c.model).label("asked"),
            _provider_ms().label("latency_ms"),
            messages.c.content,
        )
        .join(sessions, sessions.c.id == turns.c.session_id)
        .join(messages, and_(messages.c.turn_id == turns.c.id, messages.c.final), isouter=True)
        .where(turns.c.id.in_(turn_ids), turns.c.state.in_(FINAL))
    )
    return {one.turn_id: one for one in readable(rows, _side)}


def _provider_ms() -> ColumnElement[Any]:
    """Return how long the provider took for the reply; NULL where it was asked for it later."""
    answering = and_(
        attempts.c.turn_id == turns.c.id,
        attempts.c.outcome == TurnState.SUCCEEDED.value,
        attempts.c.kind == "send",
        attempts.c.polls == 0,
    )
    return select(func.max(attempts.c.provider_ms)).where(answering).scalar_subquery()


def _side(row: Any) -> TrialSide:
    try:
        text = None if row.content is None else text_of(parts_from(plain(row.content)))
        error_code = row.error_code
    except DataKeyMissing as error:
        text, error_code = None, error.code
    except ODD:
        text, error_code = None, UnreadableRow.code
    return TrialSide(
        turn_id=TurnId(row.id),
        session_id=SessionId(row.session_id),
        state=TurnState(row.state),
        text=text,
        model=row.answered_by or row.asked,
        cost_usd=row.cost_usd,
        latency_ms=row.latency_ms,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        error_code=error_code,
    )


def _result(row: Any, sides: Mapping[Any, TrialSide]) -> TrialResult:
    after = sides.get(row.copy_id)
    return TrialResult(
        line=row.line,
        user_id=row.user_id,
        before=sides.get(row.turn_id),
        after=after,
        error_code=row.error_code if after is None else after.error_code,
        verdict=JudgeVerdict(row.verdict),
        agreement=row.agreement,
        preferred=row.preferred,
        swayed=row.swayed,
        judge_error=row.judge_error,
    )
