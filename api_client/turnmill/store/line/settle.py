"""Settling attempts: reply, usage, state and the next head of the line, in one commit."""

import logging
from collections.abc import Sequence

from sqlalchemy import Connection, select

from turnmill.domain.errors import UnreadableRow
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import TurnState
from turnmill.store.engine import engine_of
from turnmill.store.postgres import settling as _built_at_import  # noqa: F401
from turnmill.store.records import Fenced, Locked, Settled, Settlement
from turnmill.store.schema.tables import attempts, turns

logger = logging.getLogger("turnmill.store")


def settle(conn: Connection, settlements: Sequence[Settlement]) -> list[Settled | Fenced | Locked]:
    """Write verdicts, at most one for each session, and tell what came of each, in order.

    The fence decides, never a clock: an owner frozen past its lease holds an old number, and its
    late answer changes nothing (Fenced). A session that another transaction holds, or has changed
    since the statement began, is passed over (Locked): give that settlement again. One statement,
    and its own transaction unless the caller began one.
    """
    return engine_of(conn).settle(conn, settlements)


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
            has_calls=True,  # nobody can tell, of this nor of the next
            batched=True,
        )
        for turn_id, session_id, fence in claimed
    ]
    settle(conn, verdicts)
    for turn_id, session_id, _ in claimed:
        logger.warning(
            "turn %s failed: %s (session %s)",
            turn_id,
            UnreadableRow.code,
            session_id,
            extra={"action": "failed", "turn_id": str(turn_id), "code": UnreadableRow.code},
        )


def was_settled(conn: Connection, turn_id: TurnId, fence: int) -> TurnState | None:
    """Return the turn's state if the attempt under this fence was settled by its owner."""
    outcome = conn.scalar(
        select(attempts.c.outcome).where(attempts.c.turn_id == turn_id, attempts.c.fence == fence)
    )
    if outcome is None or outcome == "lost":
        return None
    return TurnState(conn.scalars(select(turns.c.state).where(turns.c.id == turn_id)).one())
