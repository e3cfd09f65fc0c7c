"""What was said of replies, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnmill.show.listing import Listing
from turnmill.show.tables import fields, print_outcome
from turnmill.show.wording import times

if TYPE_CHECKING:
    from turnmill.store.feedback_records import Feedback

_FIELDS = (
    *("id", "turn_id", "session_id", "by", "score", "comment", "changes"),
    *("created_at", "updated_at"),
)

FEEDBACK: Listing[Feedback] = Listing(
    columns=("id", "turn", "score", "said", "by", "at"),
    row=lambda one: (
        one.id,
        one.turn_id,
        score_text(one.score),
        one.comment or "",
        one.by or "",
        one.updated_at,
    ),
    document=lambda one: fields(one, *_FIELDS),
    numbers=("score",),
    spare=("at", "by"),
)


def print_given(one: Feedback, *, as_json: bool) -> None:
    """Say what stands now."""
    if one.score is None:
        sentence = f"{one.turn_id}  taken back"
    else:
        changed = f", changed {times(one.changes)}" if one.changes else ""
        sentence = f"{one.turn_id}  {score_text(one.score)}{changed}"
    print_outcome(sentence, dict(fields(one, *_FIELDS)), as_json=as_json)


def score_text(score: float | None) -> str:
    """Return `+0.50`; `n/a` for none."""
    return "n/a" if score is None else f"{score:+.2f}"
