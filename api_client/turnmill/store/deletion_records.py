"""What a deletion has come to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from turnmill.domain.ids import SessionId
from turnmill.domain.states import BackupState, ErasureState


class Gone(StrEnum):
    """How a session went."""

    DELETED = "deleted"  #: somebody wanted it
    PURGED = "purged"  #: its time was over
    ERASED = "erased"  #: a user, with all that was his


#: What is pending of an erasure that has not begun.
GRACE_PERIOD = "grace period"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """Something of a deleted session that is still there."""

    what: str  #: `running turn`, `legal hold`, or the table that knows of it
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
class Backups:
    """What backups of before tell."""

    state: BackupState = BackupState.READABLE
    #: when the last one expires that can be read; None: nobody has said for how long they are kept
    until: datetime | None = None

    def __str__(self) -> str:
        """Say it in words."""
        if self.state is not BackupState.READABLE:
            return str(self.state)
        return f"readable until {self.until or 'they expire'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What went, and what is left of it: ids and figures, no content."""

    how: Gone
    at: datetime  #: when it was to go: from then on nobody sees it
    rows: Mapping[str, int]  #: that went, by table; none yet while a turn runs
    pending: Sequence[Pending]
    impossible: Sequence[Impossible]
    backups: Backups = Backups()

    @property
    def done(self) -> bool:
        """Tell whether nothing is left that can be deleted."""
        return not self.pending


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionReport(Removal):
    """What became of a session that was deleted, or purged."""

    session_id: SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureReport(Removal):
    """What became of a user who was erased, or is to be."""

    user_id: str = field(repr=False)

    @property
    def waits(self) -> bool:
        """Tell whether nothing has gone yet, for its grace period: `withdraw` takes it back."""
        return any(one.what == GRACE_PERIOD for one in self.pending)


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """That a user was erased, or is to be, by what stands for him."""

    user_hash: str
    state: ErasureState
    reason: str = field(repr=False)
    requested_at: datetime
    due_at: datetime  #: until then it can be taken back
    begun_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """That nothing of a user may be deleted."""

    user_id: str = field(repr=False)
    reason: str = field(repr=False)
    since: datetime
