"""Turnmill takes LLM conversation turns off an application's hands.

from turnmill import Client

client = Client.from_env()
session = client.sessions.create(user_id="ada", provider="mock", model="mock")
turn = client.send(session, "Hello")
print(turn.result(timeout=60).text)
"""

from typing import TYPE_CHECKING, Any

from turnmill.domain import errors as _errors
from turnmill.domain.errors import *  # noqa: F403
from turnmill.domain.states import Lane, OnAmbiguous, OnFailure, SessionStatus, TurnState

if TYPE_CHECKING:
    from turnmill.aio import AsyncClient, AsyncTurn
    from turnmill.client import Client, Turn
    from turnmill.reply import Reply
    from turnmill.settings import Settings
    from turnmill.store.records import AttemptRecord, MessageRecord, SessionRecord

_LAZY = {
    "Client": "turnmill.client",
    "Turn": "turnmill.client",
    "AsyncClient": "turnmill.aio",
    "AsyncTurn": "turnmill.aio",
    "Reply": "turnmill.reply",
    "Settings": "turnmill.settings",
    "SessionRecord": "turnmill.store.records",
    "MessageRecord": "turnmill.store.records",
    "AttemptRecord": "turnmill.store.records",
}
_ERRORS = [name for name in dir(_errors) if isinstance(getattr(_errors, name), type)]
_ERRORS = [name for name in _ERRORS if issubclass(getattr(_errors, name), _errors.TurnmillError)]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load the clients on first use: a program that only catches errors pays for no database."""
    if name not in _LAZY:
        raise AttributeError(f"module 'turnmill' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(_LAZY[name]), name)
