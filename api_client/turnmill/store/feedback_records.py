"""What passes between clients and the store of what people say of replies."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from turnmill.domain.ids import SessionId, TurnId


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """The last word of somebody on a turn."""

    id: UUID
    turn_id: TurnId
    session_id: SessionId
    by: str | None = field(
        repr=False
    )  #: who has said it; None: nobody by name, so whose turn it is
    score: float | None  #: from -1 to 1; None: it was taken back
    comment: str | None = field(repr=False)  #: None: there was none, or it is gone
    changes: int  #: how often it was changed since the first word
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFeedback:
    """A word on a turn that is to be kept."""

    score: float | None
    comment: str | None = field(default=None, repr=False)
    by: str | None = field(default=None, repr=False)
