"""What people say of replies: given for a turn, and read again."""

from typing import Any

from turnmill.domain.arguments import plain_number, yes_or_no
from turnmill.domain.bounds import COMMENT_BYTES
from turnmill.domain.checks import check_text
from turnmill.domain.errors import InvalidInput
from turnmill.domain.ids import SessionId
from turnmill.new_ids import new_id
from turnmill.store.analytics import feedback as rows
from turnmill.store.feedback_records import Feedback, NewFeedback
from turnmill.verbs import intake
from turnmill.verbs.refs import SessionRef, session_id
from turnmill.verbs.verb import Connection, Deed, Effect, Shown, Verb, single, transaction


def give(turn: object, score: object, comment: object, *, by: object) -> Verb[Feedback]:
    """Write somebody's word on a turn."""
    turn_id = intake.turn_id(turn)
    new = NewFeedback(
        score=None if score is None else score_of(score, name="score"),
        comment=None if comment is None else _comment(comment),
        by=intake.name_or_none(by, name="by"),
    )
    if new.score is None and new.comment is not None:
        raise InvalidInput("a comment goes with a score", hint="0 is neither good nor bad")
    deed = Deed("feedback.given", turn=turn_id)
    return transaction(
        lambda conn: Effect(rows.give(conn, turn_id, new, new_id=new_id())), does=deed
    )


def find(
    *,
    session: SessionRef | None,
    turn: object,
    user_id: str | None,
    most: object,
    commented: object,
    after: object,
    limit: int,
) -> Verb[list[Feedback]]:
    """Read a page of what was said."""
    filters: dict[str, Any] = {
        "turn_id": None if turn is None else intake.turn_id(turn),
        "user_id": intake.name_or_none(user_id, name="user_id"),
        "most": None if most is None else score_of(most, name="most"),
        "commented": yes_or_no(commented, name="commented"),
        **intake.listing(after=after, limit=limit),
    }

    def on(conn: Connection) -> Effect[list[Feedback]]:
        target = None if session is None else session_id(conn, session)
        return Effect(rows.find(conn, session_id=target, **filters))

    return single(on, shows=Shown("feedback", "session", _whose))


def score_of(value: object, *, name: str) -> float:
    """Return a number from -1 to 1; raises InvalidInput."""
    found = plain_number(value)
    if found is not None and -1 <= found <= 1:
        return float(found) + 0.0  # -0.0 is 0
    raise InvalidInput(f"{name} must be a number from -1 to 1", hint="1: good, -1: bad, 0: neither")


def _comment(value: object) -> str:
    hint = f"a comment has at most {COMMENT_BYTES} bytes"
    return check_text(value, name="comment", max_bytes=COMMENT_BYTES, hint=hint)


def _whose(found: list[Feedback]) -> set[SessionId]:
    return {one.session_id for one in found if one.comment is not None}
