"""Which words of what people say of replies count."""

from sqlalchemy import ColumnElement, and_

from turnmill.domain.states import FINAL
from turnmill.store.schema.feedback_tables import feedback
from turnmill.store.schema.tables import turns


def stands() -> ColumnElement[bool]:
    """Return which words are still of what the turn has come to, beside which they are read.

    What was said before a turn was run again is of another reply; what was taken back is of none.
    """
    return and_(
        feedback.c.score.is_not(None),
        turns.c.state.in_(FINAL),
        feedback.c.updated_at >= turns.c.finished_at,
    )
