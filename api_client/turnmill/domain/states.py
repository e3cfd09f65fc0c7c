"""The states of a turn and of a session, and the moves between them, as data."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class TurnState(StrEnum):
    """Where a turn stands."""

    QUEUED = "queued"  #: stands in the store, waits for a worker or for its place in the session
    RUNNING = "running"  #: one worker holds the lease; a provider request may be in flight
    RETRYING = "retrying"  #: a temporary error; due again at `available_at`
    WAITING = "waiting"  #: for a provider's work in the background, a tool, an approval or a batch
    UNKNOWN = "unknown"  #: the request may have left, and nobody heard of it: to be reconciled
    SUCCEEDED = "succeeded"  #: final; there is exactly one reply
    FAILED = "failed"  #: final; a permanent error, or refused by policy
    DEAD = "dead"  #: final; attempts, or losses in quarantine, exhausted: a dead letter
    CANCELLED = "cancelled"  #: final; somebody asked for it
    EXPIRED = "expired"  #: final; `expires_at` passed before it could run, or in the background


MOVES: Mapping[TurnState, frozenset[TurnState]] = MappingProxyType(
    {
        TurnState.QUEUED: frozenset({TurnState.RUNNING, TurnState.CANCELLED, TurnState.EXPIRED}),
        TurnState.RUNNING: frozenset(
            {
                TurnState.SUCCEEDED,
                TurnState.FAILED,
                TurnState.DEAD,
                TurnState.RETRYING,
                TurnState.WAITING,
                TurnState.UNKNOWN,
                TurnState.QUEUED,  # given back, its attempt unspent: by a worker that drains, say
                TurnState.CANCELLED,
                TurnState.EXPIRED,  # while the provider worked on it in the background
            }
        ),
        TurnState.RETRYING: frozenset({TurnState.RUNNING, TurnState.CANCELLED, TurnState.EXPIRED}),
        TurnState.WAITING: frozenset({TurnState.RUNNING, TurnState.CANCELLED}),
        TurnState.UNKNOWN: frozenset({TurnState.RUNNING, TurnState.CANCELLED}),
        TurnState.SUCCEEDED: frozenset(),
        TurnState.FAILED: frozenset({TurnState.QUEUED}),  # `retry`, in place
        TurnState.DEAD: frozenset({TurnState.QUEUED}),  # `retry`, in place
        TurnState.CANCELLED: frozenset(),
        TurnState.EXPIRED: frozenset(),
    }
)

FINAL = frozenset(
    {
        TurnState.SUCCEEDED,
        TurnState.FAILED,
        TurnState.DEAD,
        TurnState.CANCELLED,
        TurnState.EXPIRED,
    }
)

#: Final without a reply, and no retry brings it back.
CUT_SHORT = frozenset({TurnState.CANCELLED, TurnState.EXPIRED})

#: Anything not final holds the line of its session.
UNFINISHED = frozenset(TurnState) - FINAL

#: States from which a worker may take a turn.
CLAIMABLE = frozenset({TurnState.QUEUED, TurnState.RETRYING, TurnState.WAITING, TurnState.UNKNOWN})


class Running(StrEnum):
    """What becomes of turns that are at work, where something is done to their session."""

    WAIT = "wait"  #: it is done when they have ended
    REFUSE = "refuse"  #: it is not done
    CANCEL = "cancel"  #: they are cancelled


def sources_of(target: TurnState) -> frozenset[TurnState]:
    """Return the states from which a turn may move to `target`."""
    return frozenset(state for state, targets in MOVES.items() if target in targets)


class EventKind(StrEnum):
    """What an event tells of."""

    SUCCEEDED = "turn.succeeded"  #: the turn has come to this state
    FAILED = "turn.failed"  #: the same
    DEAD = "turn.dead"  #: the same
    CANCELLED = "turn.cancelled"  #: the same
    EXPIRED = "turn.expired"  #: the same
    RETRIED = "turn.retried"  #: a failed or dead one runs again, in place; it will end again
    DELETED = "turn.deleted"  #: it went with its session, unfinished
    THRESHOLD = "budget.threshold"  #: the turn's cost has brought a budget to a share of its limit
    ACCEPTED = "turn.accepted"  #: it stands in the store; where somebody wants it, as all below
    STARTED = "turn.started"  #: a worker took it for the first time
    RETRYING = "turn.retrying"  #: an attempt came to nothing, and another one follows
    WAITING = "turn.waiting"  #: for what its vendor does, or for somebody to see to its tools
    OPENED = "session.opened"  #: it was created
    UPDATED = "session.updated"  #: an option of it was changed
    PAUSED = "session.paused"  #: nothing of it runs, by a verb or after a failure
    RESUMED = "session.resumed"  #: it runs again
    ARCHIVED = "session.archived"  #: it takes no messages, by a verb or for its idle time
    RESTORED = "session.restored"  #: it takes them again
    FORKED = "session.forked"  #: it was made from another one
    SESSION_DELETED = "session.deleted"  #: by a verb
    PURGED = "session.purged"  #: it was archived for long enough
    BATCH_FINISHED = "batch.finished"  #: all its turns have ended; `session_id` is its id
    BATCH_PAUSED = "batch.paused"  #: nothing of it runs: it has stopped itself, or somebody did
    BATCH_EXPIRED = "batch.expired"  #: its deadline passed, and what ran by then has ended
    WEBHOOK_PARKED = "webhook.parked"  #: nothing was taken there for a day; `session_id` is its id
    JOINED = "participant.joined"  #: somebody takes part in the session
    LEFT = "participant.left"  #: and does no more
    NOTE_POSTED = "note.posted"  #: something was said to the participants alone
    FEEDBACK = "turn.feedback"  #: somebody has said what he thinks of its reply, or takes it back
    GAP = "gap"  #: events that were not read are gone
    ACCOUNT_CLOSED = "account.closed"  #: nobody calls it any more; `session_id` is the account's id
    ACCOUNT_OPENED = "account.opened"  #: it is called again
    ALERT_OPENED = "alert.opened"  #: a figure is beyond its bounds; `session_id` is the alert's id
    ALERT_CLOSED = "alert.closed"  #: it is well within them again
    REPORT_MADE = "report.made"  #: by beat, of a week; `session_id` is the report's id


#: Asked for, it stands for every ending: each has a kind of its own.
SETTLED = "turn.settled"
#: The event of each ending; they are written whether somebody wants them or not.
ENDINGS: Mapping[EventKind, TurnState] = MappingProxyType(
    {EventKind(f"turn.{state}"): state for state in sorted(FINAL)}
)
#: What an event says of its turn.
STATES: Mapping[str, TurnState] = MappingProxyType(
    {
        **{kind.value: state for kind, state in ENDINGS.items()},
        EventKind.ACCEPTED: TurnState.QUEUED,
        EventKind.STARTED: TurnState.RUNNING,
        EventKind.RETRYING: TurnState.RETRYING,
        EventKind.WAITING: TurnState.WAITING,
        EventKind.RETRIED: TurnState.QUEUED,
    }
)
#: What is written only where somebody wants it.
ON_DEMAND = frozenset(
    {
        EventKind.ACCEPTED,
        EventKind.STARTED,
        EventKind.RETRYING,
        EventKind.WAITING,
        EventKind.NOTE_POSTED,
        EventKind.REPORT_MADE,
        EventKind.FEEDBACK,
        *(kind for kind in EventKind if kind.startswith(("session.", "participant.", "batch."))),
    }
)


#: What a turn waits for when it has stopped between two steps; reserved: no layer may name them.
FOR_TOOL = "tool"  #: somebody outside gives the output
FOR_APPROVAL = "approval"  #: somebody agrees that it is run
BETWEEN_STEPS = frozenset({FOR_TOOL, FOR_APPROVAL})

#: What a turn waits for that has been put off right before its call.
FOR_ACCOUNT = "account"  #: the account of its key is closed: the vendor has said later, or never
FOR_BREAKER = "breaker"  #: the model hangs, or has failed many times in a row
FOR_LIMIT = "limit"  #: so many calls are made in a minute, or at once, and no more
FOR_BUDGET = "budget"  #: there is no money for it
#: What a turn waits for whose batch is paused, or has it in a batch of its vendor's.
FOR_BATCH = "batch"
#: What a turn waits for whose content cannot be opened.
FOR_KEY = "key"
#: What a target was closed for before a call left: another target may take it.
AT_A_CLOSED_TARGET = frozenset({FOR_ACCOUNT, FOR_BREAKER})


class ToolCallState(StrEnum):
    """Where a call of a tool stands."""

    PENDING = "pending"  #: it is to be run
    APPROVAL = "approval"  #: it may be run as soon as somebody agrees
    CALLER = "caller"  #: its output comes from outside
    RUNNING = "running"  #: it has been begun: from here on it may have had its effect
    DONE = "done"  #: there is an output
    FAILED = "failed"  #: it raised, took too long, or could not be called so; the model is told
    REJECTED = "rejected"  #: somebody did not agree; the model is told
    EXPIRED = "expired"  #: neither output nor approval came in time; the model is told
    UNKNOWN = "unknown"  #: it may have had its effect, and is not run again; the model is told


#: Calls that somebody outside has to do something about.
WAITING_CALLS = frozenset({ToolCallState.APPROVAL, ToolCallState.CALLER})

#: What a turn waits for that has such a call.
WAITS_FOR: Mapping[ToolCallState, str] = MappingProxyType(
    {ToolCallState.CALLER: FOR_TOOL, ToolCallState.APPROVAL: FOR_APPROVAL}
)

#: Calls without an output so far.
OPEN_CALLS = WAITING_CALLS | {ToolCallState.PENDING, ToolCallState.RUNNING}


class Effects(StrEnum):
    """What running a tool a second time would do to the world."""

    NONE = "none"  #: nothing at all: it looks something up
    IDEMPOTENT = "idempotent"  #: nothing more than once did, under the same idempotency key
    AT_MOST_ONCE = "at_most_once"  #: it again: it is never run again once it was begun


class CompactionKind(StrEnum):
    """What is done about a conversation that has become too long; the setting on_context_full."""

    TRUNCATE = "truncate"  #: its oldest turns are left out
    SUMMARISE = "summarise"  #: so they are, and a summary of them stands in their place


class SessionStatus(StrEnum):
    """Where a session stands."""

    ACTIVE = "active"  #: takes messages, and its turns run
    PAUSED = "paused"  #: takes messages; nothing runs until it is resumed
    ARCHIVED = "archived"  #: keeps its history, refuses messages
    DELETED = "deleted"  #: gone for callers; its rows go when the turn that runs has ended


class ParticipantRole(StrEnum):
    """What somebody may do in a session."""

    OWNER = "owner"  #: speaks, and decides who takes part; the session's user always is one
    MEMBER = "member"  #: speaks
    OBSERVER = "observer"  #: follows what happens


#: Who may say something.
SPEAKING = frozenset({ParticipantRole.OWNER, ParticipantRole.MEMBER})


class ErasureState(StrEnum):
    """How far the erasure of a user is."""

    WAITING = "waiting"  #: for its time: it can be taken back
    ERASING = "erasing"  #: nothing new is written for the user, and what there is goes
    ERASED = "erased"  #: nothing is left here; nothing new is written
    ADMITTED = "admitted"  #: so it was, and the user is welcome again


class BackupState(StrEnum):
    """What backups of before tell of a user who was erased."""

    SHREDDED = "shredded"  #: nothing: the key is gone that what he said was encrypted with
    READABLE = "readable"  #: everything, to whoever has one, until it expires
    REPLAY_DUE = "replay_due"  #: one was restored: what was erased is back, until it is replayed


class Lane(StrEnum):
    """Which queue a turn goes through."""

    INTERACTIVE = "interactive"  #: somebody waits: one task a turn, a reserve of slots
    BULK = "bulk"  #: nobody waits: many turns a task, what slots are left
    QUARANTINE = "quarantine"  #: a turn whose worker was lost runs in a process apart


class OnFailure(StrEnum):
    """What a session does when one of its turns failed or died."""

    CONTINUE = "continue"  #: the next turn runs
    PAUSE = "pause"  #: the session is paused until somebody resumes it


class OnAmbiguous(StrEnum):
    """What is done with a turn whose request may have left, and nobody knows what became of it."""

    RECONCILE = "reconcile"  #: ask the provider what became of it, then adopt or send again
    RETRY = "retry"  #: send again at once
    HOLD = "hold"  #: wait for an operator
