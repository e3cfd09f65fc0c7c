"""What passes between clients and the store of sessions that several people take part in."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from turnmill.domain.content import Part, text_of
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import ParticipantRole, TurnState


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """Somebody who takes part in a session."""

    session_id: SessionId
    name: str = field(repr=False)
    role: ParticipantRole
    read: int  #: the cursor of the last that he has read
    unread: int  #: messages, notes and replies behind it; his own do not count
    joined_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A message to the participants of a session alone."""

    session_id: SessionId
    cursor: int  #: its place in what happened there: go on after it
    sender: str | None = field(repr=False)  #: None: nobody by name
    parts: Sequence[Part] = field(repr=False)
    created_at: datetime
    seq: int  #: the turn that it stands behind in the history; 0: before all
    created: bool = True  #: False: the idempotency key stood for it already

    @property
    def text(self) -> str:
        """Return its words."""
        return text_of(self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewNote:
    """A note to be written."""

    sender: str | None = field(repr=False)
    parts: Sequence[Part] = field(repr=False)
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """Something that happened in a session, as all its participants are told, in one order."""

    cursor: int  #: its place: go on after it
    #: `turn.accepted` (a message), `turn.started`, how the turn ended (`turn.succeeded` with its
    #: reply), `turn.retried`, `note.posted`, `participant.joined` or `participant.left`
    kind: str
    session_id: SessionId
    at: datetime
    turn_id: TurnId | None = None  #: None where it is of no turn
    sender: str | None = field(default=None, repr=False)  #: who said it, joined or left
    state: TurnState | None = None  #: that the turn has come to; None where it is of none
    #: of a message, a note or a reply; empty where nothing was said, or that is gone
    parts: Sequence[Part] = field(default=(), repr=False)

    @property
    def id(self) -> str:
        """What it is known by, however often it is told."""
        return f"{self.session_id}:{self.cursor}"

    @property
    def text(self) -> str:
        """Return its words."""
        return text_of(self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class HappenedPage:
    """What was found."""

    happened: Sequence[Happened] = ()
    is_behind: bool = False  #: turns have come to something that nobody has put down yet


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPosition:
    """Where somebody stands in a session that he follows."""

    session_id: SessionId
    role: ParticipantRole
    read: int  #: the cursor of the last that he has read
