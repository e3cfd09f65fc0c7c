"""What people say of replies: the last word of each, and what all of them came to."""

from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    case,
    func,
    insert,
    or_,
    select,
    union_all,
    update,
)

from turnmill.domain.analytics.satisfaction import FeedbackGiven
from turnmill.domain.errors import MoveRefused, TurnNotFound
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import FINAL, EventKind, SessionStatus, TurnState
from turnmill.store.feedback_records import Feedback, NewFeedback
from turnmill.store.line.head import lock_sessions
from turnmill.store.readable import read_page
from turnmill.store.rules.happenings import write_turn_events
from turnmill.store.rules.ratings import stands
from turnmill.store.rules.sealing import require_keys, sealed_in
from turnmill.store.schema.feedback_tables import feedback
from turnmill.store.schema.tables import sessions, turns
from turnmill.store.types import db_now
from turnmill.store.vaults import Unopened, plain

_COLUMNS = tuple(
    feedback.c["name" if name == "by" else name] for name in Feedback.__dataclass_fields__
)


def give(conn: Connection, turn_id: TurnId, new: NewFeedback, *, new_id: UUID) -> Feedback:
    """Write somebody's word on a turn that has ended, in place of what he has said before.

    The same again changes nothing. Raises TurnNotFound, MoveRefused of a turn that has not ended,
    and UserErased where nothing may be written of whoever says it.
    """
    session_id = _session_of(conn, turn_id)
    require_keys(conn, [session_id])
    lock_sessions(conn, [session_id])  # a turn that is run again is moved under the same lock
    _refuse_open(conn, turn_id)
    standing = conn.execute(select(*_COLUMNS).where(_of(turn_id, new.by))).one_or_none()
    if standing is None and new.score is None:
        raise MoveRefused("there is no such feedback", hint="None takes back what was said")
    if standing is not None and _says(standing, new) and _counts_still(conn, standing.id):
        return _record(standing)
    row_id = new_id if standing is None else standing.id
    said = sealed_in(conn, session_id, feedback.c.comment, row_id.hex, new.comment)
    values: dict[str, Any] = {"score": new.score, "comment": said}
    if standing is None:
        place = {"id": row_id, "turn_id": turn_id, "session_id": session_id, "name": new.by}
        conn.execute(insert(feedback).values(**place, **values))
    else:
        values |= {"changes": feedback.c.changes + 1, "updated_at": db_now()}
        conn.execute(update(feedback).where(feedback.c.id == row_id).values(values))
    write_turn_events(conn, [(session_id, turn_id)], EventKind.FEEDBACK)
    return _record(conn.execute(select(*_COLUMNS).where(feedback.c.id == row_id)).one())


def find(
    conn: Connection,
    *,
    session_id: SessionId | None = None,
    user_id: str | None = None,
    turn_id: TurnId | None = None,
    most: float | None = None,
    commented: bool = False,
    after: UUID | None = None,
    limit: int = 100,
) -> list[Feedback]:
    """Return up to `limit` of what stands, the latest first word first.

    `user_id` is whose word it is, `most` the highest score; `after` is the id of the last one of
    the page before.
    """
    wanted = [stands()]
    if session_id is not None:
        wanted.append(feedback.c.session_id == session_id)
    if turn_id is not None:
        wanted.append(feedback.c.turn_id == turn_id)
    if user_id is not None:
        wanted.append(_said_by(user_id))
    if most is not None:
        wanted.append(feedback.c.score <= most)
    if commented:
        wanted.append(feedback.c.comment.is_not(None))
    if after is not None:
        wanted.append(feedback.c.id < after)
    query = _joined(*_COLUMNS).where(*wanted)
    return read_page(conn, query, _record, by=feedback.c.id, limit=limit)


def given(conn: Connection, *which: ColumnElement[bool]) -> FeedbackGiven:
    """Return what was said in figures, of the turns that are meant."""
    score = feedback.c.score
    row = conn.execute(
        _joined(
            func.count().label("many"),
            func.avg(score).label("mean"),
            _sum_where(score > 0).label("positive"),
            _sum_where(score < 0).label("negative"),
            func.count(feedback.c.comment).label("comments"),
        ).where(stands(), *which)
    ).one()
    return FeedbackGiven(
        count=int(row.many),
        mean=None if row.mean is None else float(row.mean),
        positive=int(row.positive),
        negative=int(row.negative),
        comments=row.comments,
    )


def given_by(conn: Connection, user_id: str, *which: ColumnElement[bool]) -> FeedbackGiven:
    """Return what this user has said, wherever; `which` are turns, as for `given`."""
    return given(conn, _said_by(user_id), *which)


def _said_by(user_id: str) -> ColumnElement[bool]:
    # Each half is found by an index of its own; as one condition neither would be.
    named = select(feedback.c.id).where(feedback.c.name == user_id)
    his = select(sessions.c.id).where(sessions.c.user_id == user_id)
    unnamed = select(feedback.c.id).where(feedback.c.name.is_(None), feedback.c.session_id.in_(his))
    return feedback.c.id.in_(union_all(named, unnamed))


def _joined(*columns: Any) -> Any:
    return (
        select(*columns)
        .select_from(feedback)
        .join(turns, turns.c.id == feedback.c.turn_id)
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(sessions.c.status != SessionStatus.DELETED)
    )


def _sum_where(condition: ColumnElement[bool]) -> Any:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def _session_of(conn: Connection, turn_id: TurnId) -> SessionId:
    found = conn.scalar(
        select(turns.c.session_id)
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(turns.c.id == turn_id, sessions.c.status != SessionStatus.DELETED)
    )
    if found is None:
        raise TurnNotFound()
    return SessionId(found)


def _refuse_open(conn: Connection, turn_id: TurnId) -> None:
    state = conn.scalar(select(turns.c.state).where(turns.c.id == turn_id))
    if state is None:
        raise TurnNotFound()
    if TurnState(state) not in FINAL:
        raise MoveRefused(
            f"a turn that is {state} has nothing to give feedback on",
            hint="wait for its end: turn.result()",
        )


def _counts_still(conn: Connection, feedback_id: UUID) -> bool:
    query = _joined(feedback.c.id).where(feedback.c.id == feedback_id)
    still = or_(feedback.c.score.is_(None), feedback.c.updated_at >= turns.c.finished_at)
    return conn.execute(query.where(still)).first() is not None


def _of(turn_id: TurnId, by: str | None) -> ColumnElement[bool]:
    whose = feedback.c.name.is_(None) if by is None else feedback.c.name == by
    return and_(feedback.c.turn_id == turn_id, whose)


def _says(row: Any, new: NewFeedback) -> bool:
    """Tell whether the row says the same; what cannot be opened says something else."""
    return (
        not isinstance(row.comment, Unopened)
        and row.score == new.score
        and row.comment == new.comment
    )


def _record(row: Any) -> Feedback:
    values = dict(zip(Feedback.__dataclass_fields__, row, strict=True))
    return Feedback(**values | {"comment": plain(values["comment"])})
