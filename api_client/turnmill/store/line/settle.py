"""Settling attempts: reply, usage, state and the next head of the line, in one commit."""

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta

from sqlalchemy import Connection, select

from turnmill.domain.errors import DataKeyMissing
from turnmill.domain.ids import TurnId
from turnmill.domain.states import FOR_KEY, TurnState
from turnmill.store.engine import engine_of
from turnmill.store.postgres import settling as _built  # noqa: F401  before the first verdict
from turnmill.store.records import Fenced, Locked, Settled, Settlement, Taken
from turnmill.store.schema.tables import attempts, turns

logger = logging.getLogger("turnmill.store")

#: After so long a turn looks again whether its key is there.
KEY_LOOKED_FOR = timedelta(seconds=5)


def settle(conn: Connection, settlements: Sequence[Settlement]) -> list[Settled | Fenced | Locked]:
    """Write verdicts, at most one for each session, and tell what came of each, in order.

    The fence decides, never a clock: an owner frozen past its lease holds an old number, and its
    late answer changes nothing (Fenced). A session that another transaction holds, or has changed
    since the statement began, is passed over (Locked): give that settlement again. One statement,
    and its own transaction unless the caller began one.
    """
    return engine_of(conn).settle(conn, settlements)


def end_unreadable(conn: Connection, claimed: Mapping[str, Sequence[Taken]]) -> None:
    """End turns as failed whose claimed rows nobody can read, by the code of that.

    A dispatcher announces the heads behind them.
    """
    verdicts = [
        Settlement(
            turn_id=one.turn_id,
            session_id=one.session_id,
            fence=one.fence,
            state=TurnState.FAILED,
            outcome="failed",
            error_code=code,
            has_calls=True,  # nobody can tell
            batched=True,
        )
        for code, ones in claimed.items()
        for one in ones
    ]
    settle(conn, verdicts)
    for one in verdicts:
        logger.warning(
            "turn %s failed: %s (session %s)",
            one.turn_id,
            one.error_code,
            one.session_id,
            extra={"action": "failed", "turn_id": str(one.turn_id), "code": one.error_code},
        )


def put_off_for_key(conn: Connection, claimed: Sequence[Taken]) -> None:
    """Give turns back whose content cannot be opened as long as a key is missing: none is lost."""
    verdicts = [
        Settlement(
            turn_id=one.turn_id,
            session_id=one.session_id,
            fence=one.fence,
            state=TurnState.QUEUED,  # or what it was claimed from
            outcome="not_now",
            gives_attempt_back=True,
            delay=KEY_LOOKED_FOR,
            waits_for=FOR_KEY,
        )
        for one in claimed
    ]
    settle(conn, verdicts)
    logger.error(
        "%d turns wait for a key of what is encrypted",
        len(verdicts),
        extra={"action": "key_missing", "code": DataKeyMissing.code},
    )


def was_settled(conn: Connection, turn_id: TurnId, fence: int) -> TurnState | None:
    """Return the turn's state if the attempt under this fence was settled by its owner."""
    outcome = conn.scalar(
        select(attempts.c.outcome).where(attempts.c.turn_id == turn_id, attempts.c.fence == fence)
    )
    if outcome is None or outcome == "lost":
        return None
    return TurnState(conn.scalars(select(turns.c.state).where(turns.c.id == turn_id)).one())
