"""Every error that Turnmill raises, each with a stable `code` and a `hint` at what to do.

TurnmillError
├── ConfigurationError
│   ├── InvalidSetting          a variable or URL cannot be understood
│   ├── UnsafeSetting           the production profile refuses it
│   ├── InvalidTool             a function cannot be a tool as it stands
│   ├── MissingExtra            a part is not installed
│   └── UnsupportedByStore      SQLite cannot promise this
├── StoreError
│   ├── StoreUnavailable        the database cannot be reached, or not serve now: try again
│   │   ├── StoreReadOnly       it takes no writes now
│   │   └── StoreFull           no disk, memory or connection is left there
│   ├── AccessDenied            password, privilege or name: somebody has to change something
│   ├── SchemaOutOfDate         migrations have not been run
│   ├── SessionBusy             another transaction is in the way: try again
│   ├── Unstorable              the tables do not take this value, now or later
│   │   └── UserErased          it is of a user who was erased
│   ├── WrongIsolation          the caller's transaction has a frozen snapshot
│   ├── UnreadableRow           a row holds what nobody expects
│   │   └── SealBroken          what is sealed was sealed for another place
│   ├── DataKeyMissing          a key of what is encrypted is not there, or not reachable
│   └── FilesUnavailable        the file store cannot be reached, or has no room
├── InvalidInput                (also a ValueError)
│   ├── InvalidText             empty, too large, NUL, lone surrogate
│   ├── UnsupportedPart         a kind of content that no provider here can be sent
│   ├── AddressRefused          a URL leads to no public address
│   ├── AttachmentRefused       a kind or size of file that is not taken
│   ├── CannotAdopt             no id of a thread that this provider could go on with
│   ├── InvalidBill             the same of a vendor's bill
│   └── InvalidBatchFile        `problems`: (number, code, what is wrong) of lines
├── NotFound                    (also a LookupError)
│   ├── SessionNotFound
│   ├── TurnNotFound
│   ├── BatchNotFound
│   ├── BudgetNotFound
│   ├── LimitNotFound
│   ├── AttachmentNotFound
│   ├── TemplateNotFound
│   ├── TrialNotFound
│   ├── ExperimentNotFound
│   ├── ScheduleNotFound
│   ├── ToolCallNotFound
│   ├── UserNotFound
│   └── WebhookNotFound
├── Conflict
│   ├── SessionArchived
│   ├── VersionConflict         `version`: somebody has changed the session meanwhile
│   ├── NotAParticipant         the session has no participant of this name
│   ├── RoleForbids             an observer speaks, or somebody else than an owner decides
│   ├── ContentGone             what was said in the turn was kept for its time, and is gone
│   ├── IdempotencyConflict     the key stands for other content
│   ├── FilesQuotaExceeded      the user's files would be too many bytes
│   ├── BatchPurged             what its lines came to was kept for its time, and is gone
│   ├── BudgetExceeded          a batch may cost more than a budget has left
│   ├── UserOnHold              nothing of the user may be deleted
│   ├── OutputConflict          the call of a tool has another output already
│   └── MoveRefused             the state of the turn or session does not allow it
│       └── ToolCallExpired     neither output nor approval came in time
├── QueueFull                   `retry_after`
├── NotReached                  nobody answers at a URL
├── BegunBeforeFork             it belongs to the parent process
├── NoReply
│   ├── TurnFailed              permanent error; `error_code`
│   │   └── TurnDead            attempts or losses exhausted
│   ├── TurnCancelled
│   └── TurnExpired
├── TurnTimeout                 (also a TimeoutError) the turn goes on
│   └── BatchTimeout            so does the batch
└── ProviderError               raised by providers, never by a client
    ├── NotSent                 nothing was executed: send again
    │   ├── Unreachable
    │   ├── RateLimited
    │   ├── Overloaded
    │   └── ThreadLocked
    ├── MaybeSent               it may have been executed: check, then adopt or send again
    ├── ThreadLost              the provider no longer has the thread: rebuild it once
    └── Rejected                permanent
        ├── ContextFull         the conversation is too long
        ├── HistoryRefused      it is built in a way that the provider refuses
        ├── ProviderUnknown
        └── KeyMissing
"""

from turnmill.domain.errors.base import (
    ConfigurationError,
    InvalidSetting,
    InvalidTool,
    MissingExtra,
    TurnmillError,
    UnsafeSetting,
    UnsupportedByStore,
)
from turnmill.domain.errors.callers import (
    AddressRefused,
    AttachmentNotFound,
    AttachmentRefused,
    BatchNotFound,
    BatchPurged,
    BegunBeforeFork,
    BudgetExceeded,
    BudgetNotFound,
    CannotAdopt,
    Conflict,
    ContentGone,
    ExperimentNotFound,
    FilesQuotaExceeded,
    IdempotencyConflict,
    InvalidBatchFile,
    InvalidBill,
    InvalidInput,
    InvalidText,
    LimitNotFound,
    MoveRefused,
    NotAParticipant,
    NotFound,
    NotReached,
    OutputConflict,
    QueueFull,
    RoleForbids,
    ScheduleNotFound,
    SessionArchived,
    SessionNotFound,
    TemplateNotFound,
    ToolCallExpired,
    ToolCallNotFound,
    TrialNotFound,
    TurnNotFound,
    UnsupportedPart,
    UserNotFound,
    UserOnHold,
    VersionConflict,
    WebhookNotFound,
)
from turnmill.domain.errors.endings import (
    BatchTimeout,
    NoReply,
    TurnCancelled,
    TurnDead,
    TurnExpired,
    TurnFailed,
    TurnTimeout,
)
from turnmill.domain.errors.providers import (
    ContextFull,
    HistoryRefused,
    KeyMissing,
    MaybeSent,
    NotSent,
    Overloaded,
    ProviderError,
    ProviderUnknown,
    RateLimited,
    Rejected,
    ThreadLocked,
    ThreadLost,
    Unreachable,
)
from turnmill.domain.errors.stores import (
    AccessDenied,
    DataKeyMissing,
    FilesUnavailable,
    SchemaOutOfDate,
    SealBroken,
    SessionBusy,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    UnreadableRow,
    Unstorable,
    UserErased,
    WrongIsolation,
)

__all__ = [
    "AccessDenied",
    "AddressRefused",
    "AttachmentNotFound",
    "AttachmentRefused",
    "BatchNotFound",
    "BatchPurged",
    "BatchTimeout",
    "BegunBeforeFork",
    "BudgetExceeded",
    "BudgetNotFound",
    "CannotAdopt",
    "ConfigurationError",
    "Conflict",
    "ContentGone",
    "ContextFull",
    "DataKeyMissing",
    "ExperimentNotFound",
    "FilesQuotaExceeded",
    "FilesUnavailable",
    "HistoryRefused",
    "IdempotencyConflict",
    "InvalidBatchFile",
    "InvalidBill",
    "InvalidInput",
    "InvalidSetting",
    "InvalidText",
    "InvalidTool",
    "KeyMissing",
    "LimitNotFound",
    "MaybeSent",
    "MissingExtra",
    "MoveRefused",
    "NoReply",
    "NotAParticipant",
    "NotFound",
    "NotReached",
    "NotSent",
    "OutputConflict",
    "Overloaded",
    "ProviderError",
    "ProviderUnknown",
    "QueueFull",
    "RateLimited",
    "Rejected",
    "RoleForbids",
    "ScheduleNotFound",
    "SchemaOutOfDate",
    "SealBroken",
    "SessionArchived",
    "SessionBusy",
    "SessionNotFound",
    "StoreError",
    "StoreFull",
    "StoreReadOnly",
    "StoreUnavailable",
    "TemplateNotFound",
    "ThreadLocked",
    "ThreadLost",
    "ToolCallExpired",
    "ToolCallNotFound",
    "TrialNotFound",
    "TurnCancelled",
    "TurnDead",
    "TurnExpired",
    "TurnFailed",
    "TurnNotFound",
    "TurnTimeout",
    "TurnmillError",
    "Unreachable",
    "UnreadableRow",
    "UnsafeSetting",
    "Unstorable",
    "UnsupportedByStore",
    "UnsupportedPart",
    "UserErased",
    "UserNotFound",
    "UserOnHold",
    "VersionConflict",
    "WebhookNotFound",
    "WrongIsolation",
]
