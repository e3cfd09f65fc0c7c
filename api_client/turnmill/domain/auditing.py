"""What is written down of those who touch somebody's data."""

from enum import StrEnum


class Action(StrEnum):
    """What was done."""

    CONTENT_READ = "content.read"  #: somebody was shown what was said
    USER_EXPORTED = "user.exported"
    ERASURE_ASKED = "user.erasure_asked"  #: at once, or after a time of grace
    ERASURE_WITHDRAWN = "user.erasure_withdrawn"
    USER_ERASED = "user.erased"  #: from here on the log knows him by a pseudonym alone
    USER_ADMITTED = "user.admitted"  #: again, after an erasure
    USER_HELD = "user.held"  #: a legal hold: nobody erases him until it is released
    USER_RELEASED = "user.released"
    ERASURES_REPLAYED = "erasures.replayed"
    ERASURE_VERIFIED = "erasure.verified"
    KEYS_CREATED = "keys.created"
    KEYS_ROTATED = "keys.rotated"
    KEYS_REWRAPPED = "keys.rewrapped"
    KEYS_DROPPED = "keys.dropped"
    BUDGET_SET = "budget.set"
    BUDGET_REMOVED = "budget.removed"
    LIMIT_SET = "limit.set"
    LIMIT_REMOVED = "limit.removed"
    TURN_RETRIED = "turn.retried"  #: by an operator, as all down to the next one but one
    TURN_CANCELLED = "turn.cancelled"
    TURN_RELEASED = "turn.released"
    BATCH_RETRIED = "batch.retried"
    BATCH_CANCELLED = "batch.cancelled"
    SESSION_ARCHIVED = "session.archived"
    SESSION_DELETED = "session.deleted"
    PAUSED = "paused"  #: a lane, a provider, a session or a batch
    RESUMED = "resumed"
    AUDIT_PURGED = "audit.purged"  #: rows of this log whose time was over
