"""The states of a batch and of its lines, and the ways in which one is run."""

from enum import IntEnum, StrEnum
from typing import NamedTuple


class BatchState(StrEnum):
    """Where a batch stands."""

    SUBMITTING = "submitting"  #: lines are still being written; nothing of it runs
    RUNNING = "running"  #: sealed: every line stands, and turns are made of them in order
    PAUSED = "paused"  #: no further turn is made of it until somebody resumes it
    COMPLETED = "completed"  #: over: every line has a reply
    COMPLETED_WITH_ERRORS = "completed_with_errors"  #: over: some lines have one
    FAILED = "failed"  #: over: no line has one
    CANCELLED = "cancelled"  #: somebody asked for it; what was finished by then stays
    EXPIRED = "expired"  #: over: its deadline passed first; what was finished by then stays


#: Nothing will come of it any more, unless its failed lines are run again.
OVER = frozenset(BatchState) - {BatchState.SUBMITTING, BatchState.RUNNING, BatchState.PAUSED}


class BatchMode(StrEnum):
    """How the turns of a batch are asked."""

    LIVE = "live"  #: one call each, on the bulk lane
    NATIVE = "native"  #: in the vendor's own batches
    FLEX = "flex"  #: one call each, in the vendor's discounted tier


class LineState(IntEnum):
    """What became of a line, besides its turn."""

    STAGED = 0  #: it stands, and waits to be fed
    FED = 1  #: its turn, or turns, stand
    REUSED = 2  #: it has the answer of an earlier batch, and no turn of its own
    DROPPED = 3  #: it came to no turn: `error_code` says why


class LineProblem(NamedTuple):
    """What is wrong with a line of a file."""

    line: int  #: its number, from 1
    code: str  #: in the words of vendors, such as invalid_json_line
    what: str  #: in ours; it quotes nothing


#: Of a shard that its vendor did not delete, however often it was asked.
NOT_DELETED = "not_deleted"
#: The status of one whose results have not come: its lines have gone on, and it is still asked.
UNREAD = "unread"
#: Of one that its vendor has begun beside another one of the same lines.
BEGUN_TWICE = "begun_twice"


class ShardState(StrEnum):
    """Where a shard, one batch of a vendor's, stands. What is about to be done is noted before."""

    READY = "ready"  #: its turns are chosen; the vendor knows nothing of it
    STORING = "storing"  #: its lines may be at the vendor, as a file
    STORED = "stored"  #: they are
    BEGINNING = "beginning"  #: the vendor may be at work on it
    BEGUN = "begun"  #: it is
    TAKEN = "taken"  #: every turn has what came of it; the vendor may still keep files of it
    DONE = "done"  #: nothing is left to do
