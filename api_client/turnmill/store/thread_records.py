"""What store functions give of threads that vendors keep."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from turnmill.domain.content import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """How far a session has come with a thread that it adopts."""

    #: in the thread, before: as it was read once; empty: it was not, or nothing was
    said: Sequence[Message] = field(default=(), repr=False)
    was_lent: bool  #: a call was at it that never gave it back: nobody knows what it holds now
