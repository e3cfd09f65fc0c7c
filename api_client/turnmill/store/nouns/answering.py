"""Who was asked, who has answered, and why that was not the session's own provider."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, literal, select

from turnmill.domain.states import TurnState
from turnmill.store.schema.tables import attempts, sessions, turns
from turnmill.store.turn_records import AttemptRecord
from turnmill.store.vaults import plain

_ASKED = attempts.c.provider + literal("/") + attempts.c.asked_model
_OWN = sessions.c.provider + literal("/") + sessions.c.model
_LAST = (
    select(_ASKED)
    .where(attempts.c.turn_id == turns.c.id)
    .order_by(attempts.c.fence.desc())
    .limit(1)
    .correlate(turns)
    .scalar_subquery()
)
#: How often a provider was asked what has become of an attempt. Claims that were put off are none.
ASKED_AGAIN = case(
    (attempts.c.polls > attempts.c.put_off, attempts.c.polls - attempts.c.put_off), else_=0
).label("polls")
_HAS_REPLY = and_(turns.c.state == TurnState.SUCCEEDED.value, turns.c.claims > 0)


def attempt_columns() -> tuple[ColumnElement[Any], ...]:
    """Return what an AttemptRecord is made of, in its order."""
    shown = {**dict(attempts.c.items()), "polls": ASKED_AGAIN}
    return tuple(shown[name] for name in AttemptRecord.__dataclass_fields__)


def attempt_of(columns: Sequence[Any]) -> AttemptRecord:
    """Return the record of a row of these; raises what keeps a vendor's words from being opened."""
    values = dict(zip(AttemptRecord.__dataclass_fields__, columns, strict=True))
    return AttemptRecord(**values | {"error_detail": plain(values["error_detail"])})


def answered_by(*, last: Any = _LAST) -> ColumnElement[Any]:
    """Return "provider/model", NULL without a reply; `last` is who was asked last, if known."""
    return case((_HAS_REPLY, func.coalesce(turns.c.answered_by, last, _OWN))).label("answered_by")


def answered_by_here() -> ColumnElement[Any]:
    """Return the same in a query whose last row holds the last attempt."""
    return answered_by(last=_ASKED)


def answered_because() -> ColumnElement[Any]:
    """Return the code for which the session's own was passed over; NULL where it has answered."""
    own_has_answered = and_(_HAS_REPLY, turns.c.answered_by.is_(None))
    return case((~own_has_answered, turns.c.answered_because)).label("answered_because")
