"""The keyword arguments of `send`, `sessions.create` and `sessions.update`."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, TypedDict


class MessageOptions(TypedDict, total=False):
    """What may be said of a message besides its text."""

    idempotency_key: str  #: sending again with the same key returns the turn that exists
    deliver_at: datetime  #: not before this; holds the line of its session until then
    expires: datetime  #: not after this: the turn ends as `expired` unless it has started
    metadata: Mapping[str, Any]  #: kept with the turn, never sent to a vendor
    max_attempts: int  #: instead of the session's


class SendOptions(MessageOptions, total=False):
    """What may be said of a single message."""

    lane: str  #: interactive (default: somebody waits) or bulk


class SessionRules(TypedDict, total=False):
    """What may be said of a session besides who talks to what."""

    system_prompt: str | None
    settings: Mapping[str, Any]  #: for the provider: temperature, max_output_tokens, thread, …
    metadata: Mapping[str, Any]
    on_failure: str  #: continue (default) or pause
    on_ambiguous: str  #: reconcile (default), retry or hold
    max_attempts: int  #: of each turn; 5 unless set
    idle_ttl: timedelta | None  #: archived when nothing happened for so long


class SessionOptions(SessionRules, total=False):
    """What may be changed of a session."""

    model: str
