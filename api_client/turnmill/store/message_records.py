"""What was said, as it is read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from turnmill.domain.content import Part, text_of
from turnmill.domain.ids import TurnId
from turnmill.domain.states import TurnState


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRecord:
    """One entry of a session's history."""

    id: Any
    turn_id: TurnId | None  #: None of a note, which stands behind the turn of its `seq`
    seq: int
    position: int
    role: str  #: user, assistant, tool or system
    parts: Sequence[Part]
    state: TurnState | None  #: of the turn that it belongs to; None of a note
    created_at: datetime
    partial: bool = False  #: what had come when its turn was cancelled; never shown to a model
    #: who of several people said it; None: nobody by name
    sender: str | None = field(default=None, repr=False)
    to: str | None = None  #: `participants` of a note: no model is shown it

    @property
    def text(self) -> str:
        """Return its words; what is no text is in `parts` alone."""
        return text_of(self.parts)
