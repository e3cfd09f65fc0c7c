"""One claim in hand: whether its call may begin, whether it has left, and why it was stopped."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any

from turnmill.store.records import Claim
from turnmill_worker.layers import clock
from turnmill_worker.layers.partial import Partial
from turnmill_worker.providers.calls import Call
from turnmill_worker.providers.port import Done, Request
from turnmill_worker.streams.publishing import Publishing


class Stop(Enum):
    """Why a call to a provider was closed before it ended."""

    CANCELLED = "cancelled"  #: somebody asked for it
    LEASE_LOST = "lease_lost"  #: another worker may run the turn by now
    DRAINING = "draining"  #: this process ends
    REVOKED = "revoked"  #: Celery ended the task, by a time limit of its own or for an operator
    TIMED_OUT = "turn_timeout"  #: the attempt has taken as long as one may


class OwnHistory(StrEnum):
    """Why a turn was asked with our own history, and not in its vendor's thread."""

    LOST = "lost"  #: the vendor has it no longer
    LOCKED = "locked"  #: something else was at it for long
    UNAVAILABLE = "unavailable"  #: it could not be begun, or used


@dataclass(slots=True, eq=False)
class Lent:
    """A vendor's thread that is lent to one call: what is said in the call changes it."""

    ref: str
    goes_on: bool  #: it holds what was said before; else it was begun for this call


@dataclass(slots=True, eq=False)
class Holding:
    """One claim in hand."""

    claim: Claim
    sent: bool = False  #: the request may have left
    stop: Stop | None = None
    target: int = field(init=False)  #: of the session's, whom the row says to be asked
    lease_ends: float = field(init=False)  #: on the clock of `turnmill_worker.layers.clock`
    call: Call[Any] | None = field(default=None, repr=False)
    advancing: bool = False  #: the next step's claim is being written: which one holds is open
    request: Request | None = field(default=None, repr=False)  #: what the provider was given last
    partial: Partial | None = field(default=None, repr=False)  #: what has come of a streamed reply
    withheld: Done | None = field(default=None, repr=False)  #: an answer that was refused here
    publishing: Publishing | None = field(default=None, repr=False)  #: None: nobody watches
    lent: Lent | None = None  #: the thread that the last call had, where that cannot fork
    own_history: OwnHistory | None = None  #: the vendor's thread is not used in this turn, since
    reserved: bool = False  #: something is reserved for the claim, in a budget
    owed: Decimal = Decimal(0)  #: for calls before the last one, and in no books so far
    last: Decimal = Decimal(0)  #: what the last call has cost, or the most that it may have
    is_known: bool = False  #: it is what it has cost
    #: tells what an answered call has cost: most are the last ones, and nobody asks here
    prices: Callable[[], Decimal | None] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.target = self.claim.target
        self.lease_ends = self.claim.lease_ends

    def may_begin(self) -> bool:
        """Tell whether something new may be started: nobody said stop, and the lease stands.

        A process that was frozen past its lease learns here, before it calls a provider, that
        another worker may run the turn by now.
        """
        if self.stop is None and clock.now() >= self.lease_ends:
            self.stop = Stop.LEASE_LOST
        return self.stop is None

    def holds_lease(self) -> bool:
        """Tell whether the lease stands, by the clock. From any thread."""
        return clock.now() < self.lease_ends

    def publish(self, publishing: Publishing | None) -> None:
        """Let this be what publishes the attempt, for as long as the lease stands."""
        if publishing is not None:
            publishing.holds = self.holds_lease
        self.publishing = publishing

    def last_cost(self) -> tuple[Decimal, bool]:
        """Return what the last call has cost, and True; or the most that it may have."""
        if self.prices is not None:
            cost, self.prices = self.prices(), None
            if cost is not None:
                self.last, self.is_known = cost, True
        return self.last, self.is_known

    def owes(self) -> None:
        """Note that another call begins: what the last one has cost is owed."""
        cost, _ = self.last_cost()
        self.owed, self.last, self.is_known = self.owed + cost, Decimal(0), False

    def note_booked(self) -> None:
        """Note that all that calls have cost until now is in the books."""
        self.owed, self.last, self.is_known, self.prices = Decimal(0), Decimal(0), False, None

    @contextmanager
    def asked_as(self, claim: Claim) -> Iterator[None]:
        """Hold this claim meanwhile: of the same turn, under the same fence, for somebody else."""
        own, self.claim = self.claim, claim
        try:
            yield
        finally:
            self.claim = own

    def go_on_with(self, claim: Claim) -> None:
        """Hold the claim of the next step: all that the last one took is in the books."""
        self.claim, self.sent, self.reserved = claim, False, False
        self.note_booked()

    def close_call(self, why: Stop) -> None:
        """Stop the call, or keep it from starting. On the loop's thread only."""
        if self.stop is None:
            self.stop = why
            if self.call is not None:
                self.call.close()

    def stop_claim(self, fence: int, why: Stop) -> None:
        """Stop the call if the claim is still the one under this fence. On the loop's thread only.

        While a step is written, its turn may stand under this claim or the next one. That somebody
        wants it to end is true of both, and that it is lost of neither: the next look will tell.
        """
        if self.advancing and why is Stop.LEASE_LOST:
            return
        if fence == self.claim.fence or (self.advancing and fence == self.claim.fence + 1):
            self.close_call(why)
