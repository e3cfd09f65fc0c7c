"""What a provider is whose vendor takes many calls at once, for less, and answers within a day."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from turnmill.domain.errors import ProviderError
from turnmill_worker.providers.port import Done, Request

#: The tier that such calls are served in, and are priced by.
TIER = "batch"

#: The code of a server that takes calls one by one alone.
UNSUPPORTED = "batches_unsupported"

#: Bytes of the lines of one shard: the vendors take more, but a worker holds them while it sends.
SHARD_BYTES = 24_000_000

#: How a batch has ended of which no line need have come to anything.
_CUT_SHORT = frozenset({"cancelled", "expired"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardBounds:
    """What a vendor takes at once."""

    lines: int
    bytes: int  #: of all lines, as they are sent
    #: tokens of input that may be waiting at the vendor, of one model; None: any number
    window: int | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One call among many."""

    custom_id: str  #: of its turn
    body: bytes = field(repr=False)  #: as it is sent: JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorBatch:
    """A batch as its vendor tells of it."""

    ref: str
    status: str  #: in the vendor's own word
    is_over: bool  #: nothing more will come of it
    total: int | None = None  #: its lines; None: not said
    results: int = 0  #: lines that came to something, as far as that is said
    error_code: str = ""  #: why nothing of it was run at all
    #: codes of lines that are wrong, by their numbers, from 1: nothing was run for them
    bad_lines: Mapping[int, str] = field(default_factory=dict, repr=False)
    outputs: Sequence[str] = field(default=(), repr=False)  #: where results can be read
    stored: str = field(default="", repr=False)  #: the file that it was made of
    created_at: datetime | None = None

    @property
    def is_cut_short(self) -> bool:
        """Tell whether it has ended before all of its lines were run."""
        return self.status in _CUT_SHORT

    def are_all(self, results: int, *, lines: int) -> bool:
        """Tell whether so many results are all there are, of a batch of so many lines.

        One that counts none may not have counted yet, however it has ended: each line has one then.
        """
        return results >= (self.results or lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What came of one line."""

    custom_id: str
    said: Done | ProviderError = field(repr=False)


#: Is given results, some at a time, as they are read.
Take = Callable[[Sequence[Answered]], Awaitable[None]]


class Batches(Protocol):
    """A vendor's batches. Every method has a timeout of its own, and raises ProviderError only."""

    bounds: ShardBounds
    stores: bool  #: the lines are stored first, as a file that has a name
    knows_marks: bool  #: a batch can be found by our mark; otherwise by the ids of its results

    def endpoint_of(self, request: Request) -> str:
        """Return what the call is made of: all lines of a shard are made of the same.

        Raises Rejected for a call that no batch of the vendor's takes.
        """
        ...

    def body_of(self, request: Request, custom_id: str) -> bytes:
        """Return the line. Raises Rejected where it cannot be said to the vendor."""
        ...

    async def store(self, name: str, lines: Sequence[Line]) -> str:
        """Store the lines under this name, and return the vendor's own."""
        ...

    async def stored(self, name: str, *, within: timedelta) -> list[str]:
        """Return what is stored under this name, since no longer than that."""
        ...

    async def begin(
        self, mark: str, *, endpoint: str, stored: str, lines: Sequence[Line]
    ) -> VendorBatch:
        """Let the lines be run, of what was stored or else as they are given. Costs money.

        MaybeSent where it was accepted, perhaps, and nobody can read as what.
        """
        ...

    async def find(self, mark: str, *, stored: str, within: timedelta) -> list[VendorBatch]:
        """Return the batches that `begin` may have made; where marks are known, exactly those.

        It began no longer ago than `within`, on the vendor's clock, which may be another than ours.
        """
        ...

    async def look(self, ref: str) -> VendorBatch:
        """Return how far it is."""
        ...

    async def read(self, batch: VendorBatch, take: Take) -> None:
        """Read its results, in whatever order they come. What cannot be read is left out."""
        ...

    async def cancel(self, ref: str) -> None:
        """Let no further line be run. That it is over, or gone, counts as success."""
        ...

    async def clear(self, batch: VendorBatch | None, *, stored: Sequence[str]) -> None:
        """Delete what the vendor keeps of it; gone already counts as success."""
        ...


@runtime_checkable
class TakesBatches(Protocol):
    """A provider whose vendor takes many calls at once."""

    @property
    def batches(self) -> Batches:
        """How it does."""
        ...
