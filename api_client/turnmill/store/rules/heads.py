"""The head of a line, as columns of its session and as what a settle tells."""

from typing import Any

from sqlalchemy import and_, case, literal, select

from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import UNFINISHED, Lane, OnAmbiguous, TurnState
from turnmill.store.records import Head, Settled
from turnmill.store.schema.tables import IN_BATCH, sessions, turns


def head_columns() -> dict[str, Any]:
    """Return the columns of `sessions` that name its head, as subqueries over its turns."""
    # Where it counts, a call is noted before it leaves: without the note there is nothing to hold.
    held = and_(
        turns.c.state == TurnState.UNKNOWN,
        turns.c.sent_at.is_not(None),
        sessions.c.on_ambiguous == OnAmbiguous.HOLD,
    )
    lane = case((turns.c.lost > 0, literal(Lane.QUARANTINE.value)), else_=turns.c.lane)
    in_batch = and_(turns.c.state == TurnState.WAITING, turns.c.waits_for == IN_BATCH)
    due_at = case(
        (turns.c.state == TurnState.RUNNING, None),
        (held, None),
        (in_batch, None),
        else_=turns.c.available_at,
    )

    def of_first(column: Any) -> Any:
        first = select(column).where(
            turns.c.session_id == sessions.c.id, turns.c.state.in_(UNFINISHED)
        )
        return first.order_by(turns.c.seq).limit(1).scalar_subquery()

    return {
        "head_turn_id": of_first(turns.c.id),
        "head_lane": of_first(lane),
        "head_due_at": of_first(due_at),
    }


def settled(row: Any) -> Settled:
    """Return what became of a verdict, from the row that both engines make of it."""
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
