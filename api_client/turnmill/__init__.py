"""Turnmill takes LLM conversation turns off an application's hands.

from turnmill import Client

client = Client.from_env()
session = client.sessions.create(user_id="ada", provider="mock", model="mock")
turn = client.send(session, "Hello")
print(turn.result(timeout=60).text)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from turnmill.domain.content import (
    Audio,
    File,
    Image,
    Message,
    Native,
    Part,
    Text,
    ToolCall,
    ToolOutput,
)
from turnmill.domain.errors import (
    AccessDenied,
    BatchNotFound,
    BatchTimeout,
    BegunBeforeFork,
    ConfigurationError,
    Conflict,
    IdempotencyConflict,
    InvalidBatchFile,
    InvalidInput,
    InvalidSetting,
    InvalidText,
    KeyMissing,
    MaybeSent,
    MissingExtra,
    MoveRefused,
    NoReply,
    NotFound,
    NotSent,
    Overloaded,
    ProviderError,
    ProviderUnknown,
    QueueFull,
    RateLimited,
    Rejected,
    SchemaOutOfDate,
    SessionArchived,
    SessionBusy,
    SessionNotFound,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    ThreadLocked,
    ThreadLost,
    TurnCancelled,
    TurnDead,
    TurnExpired,
    TurnFailed,
    TurnmillError,
    TurnNotFound,
    TurnTimeout,
    Unreachable,
    UnreadableRow,
    UnsafeSetting,
    Unstorable,
    UnsupportedByStore,
    UnsupportedPart,
    WrongIsolation,
)
from turnmill.domain.states import Lane, OnAmbiguous, OnFailure, SessionStatus, TurnState

if TYPE_CHECKING:
    from turnmill.aio.client import AsyncClient, AsyncTurn
    from turnmill.settings import Settings
    from turnmill.store.records import AttemptRecord, MessageRecord, SessionRecord
    from turnmill.sync.client import Client, Turn
    from turnmill.verbs.batches import Batch
    from turnmill.verbs.reply import Reply

__all__ = [
    "AccessDenied",
    "AsyncClient",
    "AsyncTurn",
    "AttemptRecord",
    "Audio",
    "Batch",
    "BatchNotFound",
    "BatchTimeout",
    "BegunBeforeFork",
    "Client",
    "ConfigurationError",
    "Conflict",
    "File",
    "IdempotencyConflict",
    "Image",
    "InvalidBatchFile",
    "InvalidInput",
    "InvalidSetting",
    "InvalidText",
    "KeyMissing",
    "Lane",
    "MaybeSent",
    "Message",
    "MessageRecord",
    "MissingExtra",
    "MoveRefused",
    "Native",
    "NoReply",
    "NotFound",
    "NotSent",
    "OnAmbiguous",
    "OnFailure",
    "Overloaded",
    "Part",
    "ProviderError",
    "ProviderUnknown",
    "QueueFull",
    "RateLimited",
    "Rejected",
    "Reply",
    "SchemaOutOfDate",
    "SessionArchived",
    "SessionBusy",
    "SessionNotFound",
    "SessionRecord",
    "SessionStatus",
    "Settings",
    "StoreError",
    "StoreFull",
    "StoreReadOnly",
    "StoreUnavailable",
    "Text",
    "ThreadLocked",
    "ThreadLost",
    "ToolCall",
    "ToolOutput",
    "Turn",
    "TurnCancelled",
    "TurnDead",
    "TurnExpired",
    "TurnFailed",
    "TurnNotFound",
    "TurnState",
    "TurnTimeout",
    "TurnmillError",
    "Unreachable",
    "UnreadableRow",
    "UnsafeSetting",
    "Unstorable",
    "UnsupportedByStore",
    "UnsupportedPart",
    "WrongIsolation",
]

__version__ = "0.1.0"

#: Loaded on first use: a program that only catches errors pays for no database.
_LAZY = {
    "AsyncClient": "turnmill.aio.client",
    "AsyncTurn": "turnmill.aio.client",
    "Batch": "turnmill.verbs.batches",
    "Client": "turnmill.sync.client",
    "Turn": "turnmill.sync.client",
    "Reply": "turnmill.verbs.reply",
    "Settings": "turnmill.settings",
    "AttemptRecord": "turnmill.store.records",
    "MessageRecord": "turnmill.store.records",
    "SessionRecord": "turnmill.store.records",
}


def __getattr__(name: str) -> Any:
    """Load the clients, and what they return, when they are first asked for."""
    if name not in _LAZY:
        raise AttributeError(f"module 'turnmill' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LAZY[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
