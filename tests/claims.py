"""A claim as a worker gets it from the store, for tests that have none."""

from math import inf
from typing import Any
from uuid import uuid4

from turnmill.domain.content import Message
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import Lane, OnAmbiguous
from turnmill.store.codec import StoredHistory
from turnmill.store.records import Claim


def a_claim(**options: Any) -> Claim:
    """Return the first claim of a turn without a history, whose lease never ends."""
    values: dict[str, Any] = {
        "turn_id": TurnId(uuid4()),
        "session_id": SessionId(uuid4()),
        "fence": 1,
        "kind": "send",
        "n": 1,
        "attempt": 1,
        "max_attempts": 5,
        "lane": Lane.INTERACTIVE,
        "provider": "theirs",
        "model": "large",
        "system_prompt": None,
        "settings": {},
        "provider_ref": "",
        "native_ref": "",
        "on_ambiguous": OnAmbiguous.RECONCILE,
        "metadata": {},
        "messages": [Message.of("user", "hello")],
        "next_position": 1,
        "history": StoredHistory(),
        "lease_ends": inf,
    }
    return Claim(**values | options)
