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
    CONTENT_RESEALED = "content.resealed"  #: by hand: upkeep does so all the time
    BUDGET_SET = "budget.set"
    BUDGET_REMOVED = "budget.removed"
    LIMIT_SET = "limit.set"
    LIMIT_REMOVED = "limit.removed"
    TURN_RETRIED = "turn.retried"  #: by an operator, as all down to `job.run`
    TURN_CANCELLED = "turn.cancelled"
    TURN_RELEASED = "turn.released"
    BATCH_RETRIED = "batch.retried"
    BATCH_CANCELLED = "batch.cancelled"
    SESSION_ARCHIVED = "session.archived"
    SESSION_DELETED = "session.deleted"
    SESSION_RESTORED = "session.restored"
    SESSION_MOVED = "session.moved"  #: to another provider or model
    SESSION_FORKED = "session.forked"
    PARTICIPANT_ADDED = "participant.added"  #: somebody reads along from now on
    PARTICIPANT_REMOVED = "participant.removed"
    RETENTION_SET = "retention.set"  #: for how long a user's content is kept
    FEEDBACK_GIVEN = "feedback.given"
    FILE_DELETED = "file.deleted"
    TOOL_APPROVED = "tool.approved"
    TOOL_REJECTED = "tool.rejected"
    TOOL_ANSWERED = "tool.answered"
    SCHEDULE_CREATED = "schedule.created"
    SCHEDULE_DELETED = "schedule.deleted"
    PAUSED = "paused"  #: a lane, a provider, a session, a batch or a schedule
    RESUMED = "resumed"
    ACCOUNT_OPENED = "account.opened"  #: a key or model that nobody called is called again
    READER_PARKED = "reader.parked"  #: of events: an observer, or an application's
    READER_RELEASED = "reader.released"
    READER_REMOVED = "reader.removed"
    WEBHOOK_CREATED = "webhook.created"
    WEBHOOK_REMOVED = "webhook.removed"
    WEBHOOK_ROTATED = "webhook.rotated"  #: its secret
    WEBHOOK_RELEASED = "webhook.released"
    WEBHOOK_REPLAYED = "webhook.replayed"
    TEMPLATES_SYNCED = "templates.synced"
    TEMPLATE_ROLLED_BACK = "template.rolled_back"
    TEMPLATE_REMOVED = "template.removed"
    EXPERIMENT_STARTED = "experiment.started"
    EXPERIMENT_STOPPED = "experiment.stopped"
    TRIAL_CANCELLED = "trial.cancelled"
    CALLS_REPRICED = "calls.repriced"
    JOB_RUN = "job.run"  #: of upkeep, by hand
    TRIAL_STARTED = "trial.started"  #: turns of users are asked again, of another model perhaps
    AUDIT_PURGED = "audit.purged"  #: rows of this log whose time was over
