"""What a turn came to, in one round trip: its end, its reply and every try."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, and_, bindparam, func, select

from turnmill.domain.content import Part
from turnmill.domain.errors import TurnNotFound
from turnmill.domain.ids import TurnId
from turnmill.domain.states import FINAL, SessionStatus, TurnState
from turnmill.store.codec import parts_from
from turnmill.store.nouns.answering import (
    answered_because,
    answered_by_here,
    attempt_columns,
    attempt_of,
)
from turnmill.store.readable import read_one
from turnmill.store.schema.tables import attempts, messages, sessions, turns
from turnmill.store.turn_records import AttemptRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of a turn."""

    state: TurnState
    error_code: str | None
    finish_reason: str | None
    created_at: datetime
    finished_at: datetime | None
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    cost_usd: Decimal | None
    own_history: str | None  #: why it was asked without its vendor's thread
    answered_by: str | None  #: "provider/model"
    answered_because: str | None
    parts: Sequence[Part] | None  #: of its reply; None: it ended without a reply
    attempts: Sequence[AttemptRecord]  #: first one first


_SHOWN = {
    **dict(turns.c.items()),
    "answered_by": answered_by_here(),
    "answered_because": answered_because(),
}
_OF_TURN = tuple(
    _SHOWN[name] for name in Outcome.__dataclass_fields__ if name not in {"parts", "attempts"}
)
_OF_ATTEMPT = attempt_columns()
_LAST = (
    select(func.max(attempts.c.fence))
    .where(attempts.c.turn_id == turns.c.id)
    .correlate(turns)
    .scalar_subquery()
)
# A row for each try; the reply, which may be long, stands in the last one only.
_OUTCOME = (
    select(*_OF_TURN, messages.c.content, *_OF_ATTEMPT)
    .join(sessions, sessions.c.id == turns.c.session_id)
    .outerjoin(attempts, attempts.c.turn_id == turns.c.id)
    .outerjoin(
        messages,
        and_(
            messages.c.turn_id == turns.c.id,
            messages.c.final,
            attempts.c.fence.is_not_distinct_from(_LAST),
        ),
    )
    .where(turns.c.id == bindparam("turn_id"), sessions.c.status != SessionStatus.DELETED)
    .order_by(attempts.c.fence)
)
_FENCE = len(_OF_TURN) + 1 + list(AttemptRecord.__dataclass_fields__).index("fence")


def outcome_of(conn: Connection, turn_id: TurnId) -> Outcome | None:
    """Return what the turn came to, or None while it is not final. Raises TurnNotFound."""
    rows: Sequence[Any] = conn.execute(_OUTCOME, {"turn_id": turn_id}).all()
    if not rows:
        raise TurnNotFound()
    last = rows[-1]
    state = read_one(last[0], TurnState)
    if state not in FINAL:
        return None
    width = len(_OF_TURN)
    ended = dict(zip((column.name for column in _OF_TURN), last[:width], strict=True))
    content = last[width]
    return Outcome(
        **(ended | {"state": state}),
        parts=None if content is None else read_one(content, parts_from),
        attempts=[attempt_of(row[width + 1 :]) for row in rows if row[_FENCE] is not None],
    )
