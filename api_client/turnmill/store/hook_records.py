"""Webhooks and what was sent to them, as callers and workers read them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from turnmill.domain.ids import SessionId, TurnId

#: That may wait for one webhook; what happens then is counted as missed.
MOST_WAITING = 100_000


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    DUE = "due"  #: it is to be sent, for the first time or again
    DELIVERED = "delivered"  #: a 2xx came back
    PARKED = "parked"  #: it was tried for a day; nothing is sent until somebody asks for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """An address that is told of events."""

    id: UUID
    url: str = field(repr=False)  #: it may hold a token
    events: Sequence[str]  #: as they were asked for
    include_content: bool
    secret: str | None = field(repr=False)  #: only where it was just made; else None
    parked_at: datetime | None  #: nothing is sent since then
    parked_because: str | None
    waiting: int  #: deliveries that are due, now or later
    parked: int  #: deliveries that are parked
    missed: int  #: events that no room was left for
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event for one webhook, and what came of it."""

    id: UUID
    webhook_id: UUID
    event_id: str
    kind: str
    type: str  #: the kind as it was asked for
    session_id: SessionId
    turn_id: TurnId | None
    at: datetime  #: when it happened
    state: DeliveryState
    tries: int
    due_at: datetime | None  #: of the next try
    status: int | None  #: of HTTP, that came last
    error_code: str | None  #: why nothing came
    took_ms: int | None
    ended_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ToSend:
    """A delivery that is ours for a while, with all that a request needs."""

    id: UUID
    fence: int
    tries: int  #: this one included
    webhook_id: UUID
    url: str = field(repr=False)
    secrets: Sequence[str] = field(repr=False)  #: each of them signs
    include_content: bool
    kind: str
    type: str
    session_id: UUID
    turn_id: UUID | None
    n: int
    at: datetime
    budget_id: UUID | None
    share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How many deliveries a process may begin to send."""

    most: int  #: in all
    quick: Mapping[UUID, int] = field(repr=False)  #: to webhooks that answer well
    #: To those of all others that it has to do with; else it is one.
    others: Mapping[UUID, int] = field(repr=False)
    most_of_others: int  #: to all others together

    def to(self, webhook: UUID) -> int:
        """Return how many to this one, as far as it is about this one alone."""
        known = self.quick.get(webhook)
        return self.others.get(webhook, 1) if known is None else known


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What came of a try."""

    ok: bool
    status: int | None = None
    error_code: str | None = None
    took_ms: int = 0
    gone: bool = False  #: the address says that it wants no more
    wait: timedelta | None = None  #: the address asks not to be tried before
