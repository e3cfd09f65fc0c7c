"""What was read last, and one reading at a time: a slow database makes pages old, and never slow.

Used on Flower's loop; readings run on threads of their own, and as few of them as there are.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any, Generic, TypeVar

from turnmill.domain.errors import StoreError

logger = logging.getLogger("turnmill.flower")

T = TypeVar("T")

#: Questions whose last answer is kept.
MOST_KEPT = 128
#: Readings that run or wait for a thread; one more is not begun.
MOST_AT_ONCE = 32
#: A reading that takes longer than so many seconds is long, and made once in so many times that.
_LONG, _SELDOM = 1.0, 10


@dataclass(frozen=True, slots=True)
class Seen(Generic[T]):
    """What was read, and when."""

    value: T | None  #: None: nothing could be read so far
    as_of: datetime | None  #: on the clock of what was asked
    is_fresh: bool  #: read after somebody asked for it
    error: str = ""  #: the code of what stood in the way of a newer one


#: Reads on a thread, and returns what was read and the moment that it shows.
Read = Callable[[], tuple[T, datetime]]


class Panel(Generic[T]):
    """One question: its last answer, and the reading that runs, if one does."""

    def __init__(self, read: Read[T], pool: "Pool", *, every: float = 0.0) -> None:
        """Within `every` seconds the same answer is given again."""
        self._read = read
        self._pool = pool
        self._every = every
        self._running: asyncio.Future[tuple[T, datetime]] | None = None
        self._begun = float("-inf")  #: the reading that runs, or ran last
        self._answered = float("-inf")  #: when the reading began whose answer this is
        self._value: T | None = None
        self._as_of: datetime | None = None
        self._error = ""
        self._took = 0.0  #: seconds of the last reading

    @property
    def will_do(self) -> bool:
        """Tell whether the last answer is young, for how long a new one takes.

        So what takes long to read is read seldom, however many look: a tenth of the time.
        """
        return self._took > _LONG and monotonic() - self._answered < _SELDOM * self._took

    async def look(self, patience: float) -> Seen[T]:
        """Return what was read after this call; after `patience` seconds, what was read last.

        Raises what the reading raised, unless the store was in the way of it.
        """
        asked = monotonic()
        if self.will_do:
            return self.last()
        while self._answered < asked - self._every:
            reading = self._running or self._begin()
            left = asked + patience - monotonic()
            if reading is None or left <= 0:
                break
            begun = self._begun
            done, _ = await asyncio.wait([reading], timeout=left)
            if not done or (begun >= asked and self._answered < begun):
                break  # not in time; or it has failed, and so it would again
        return self.last(fresh=self._answered >= asked - self._every)

    def last(self, *, fresh: bool = False) -> Seen[T]:
        """Return what was read last."""
        return Seen(self._value, self._as_of, fresh, "" if fresh else self._error)

    def _begin(self) -> "asyncio.Future[tuple[T, datetime]] | None":
        reading = self._pool.submit(self._read)
        if reading is None:
            self._error = "busy"
            return None
        self._running, self._begun = reading, monotonic()
        reading.add_done_callback(self._note)
        return reading

    def _note(self, reading: "asyncio.Future[tuple[T, datetime]]") -> None:
        self._running = None
        if reading.cancelled():
            return
        error = reading.exception()
        if error is None:
            self._value, self._as_of = reading.result()
            self._answered, self._error = self._begun, ""
            self._took = monotonic() - self._begun
        elif isinstance(error, StoreError):
            self._error = error.code
        else:
            logger.error("a page cannot be read: %s", type(error).__name__)
            self._error = "internal_error"


class Pool:
    """Threads for readings, and a bound for how many are begun."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._begun = 0

    def submit(self, read: Callable[[], Any]) -> "asyncio.Future[Any] | None":
        """Begin to read, or return None where too many do already."""
        if self._begun >= MOST_AT_ONCE:
            return None
        self._begun += 1
        reading = asyncio.get_running_loop().run_in_executor(self._executor, read)
        reading.add_done_callback(self._ended)
        return reading

    def _ended(self, _: object) -> None:
        self._begun -= 1


class Panels:
    """Panels by what they answer; those that nobody has asked for long enough are forgotten."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._kept: OrderedDict[Hashable, Panel[Any]] = OrderedDict()

    def of(self, key: Hashable, read: Read[T]) -> Panel[T]:
        """Return the panel of this question."""
        panel = self._kept.get(key)
        if panel is None:
            panel = self._kept[key] = Panel(read, self._pool)
        self._kept.move_to_end(key)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return panel
