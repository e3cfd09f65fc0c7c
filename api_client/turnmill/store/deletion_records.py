"""What a deletion has come to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from turnmill.domain.ids import SessionId


class Gone(StrEnum):
    """How a session went."""

    DELETED = "deleted"  #: somebody wanted it
    PURGED = "purged"  #: its time was over


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """Something of a deleted session that is still there."""

    what: str  #: `running turn`, or the table that knows of it
    count: int
    provider: str | None = None  #: at whose it lies
    due_at: datetime | None = None  #: when it is tried for the next time
    tries: int = 0
    error_code: str | None = None  #: why the last try failed; None: there was none


@dataclass(frozen=True, slots=True, kw_only=True)
class Impossible:
    """Something that a deletion does not reach."""

    what: str
    why: str
    provider: str | None = None
    ref: str | None = None  #: the vendor's name of it


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionReport:
    """What became of a session that was deleted, or purged: ids and figures, no content."""

    session_id: SessionId
    how: Gone
    at: datetime  #: when it was to go: from then on nobody sees it
    rows: Mapping[str, int]  #: that went, by table; none yet while a turn runs
    pending: Sequence[Pending]
    impossible: Sequence[Impossible]

    @property
    def done(self) -> bool:
        """Tell whether nothing is left that can be deleted."""
        return not self.pending
