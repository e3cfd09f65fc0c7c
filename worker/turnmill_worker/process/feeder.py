"""The feeder: keeps the lanes' queues filled with hints. It alone waits for the broker."""

import logging
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from turnmill.broker.publisher import TURNS_PER_HINT, Publisher
from turnmill.domain.errors import TurnmillError
from turnmill.domain.ids import TurnId
from turnmill.domain.states import Lane
from turnmill.store.database import Database
from turnmill.store.line.backlogs import Backlog
from turnmill.store.line.due import announce_due, count_due, forget_announced, note_announced
from turnmill.store.records import Head, Waits

logger = logging.getLogger("turnmill.feeder")

#: A queue is looked at this often for having run dry while more is due.
_GLANCE_SECONDS = 0.1
#: So many hints are some 0.1 s of work for a worker whose turns take no time.
_LONG_QUEUE = 100
#: While the broker keeps us waiting, the next look finds what is beyond so many.
_MOST_NEWS = 1000

_WAITS_DRAINED = Waits(timedelta(milliseconds=300), timedelta(seconds=1))
_WAITS_BUSY = Waits(timedelta(seconds=2), timedelta(seconds=10))
#: A child in quarantine takes all that it can get: more hints than children are of no use.
_MOST_HINTS = {Lane.QUARANTINE: 2}


@dataclass(slots=True)
class News:
    """What workers are to be told of."""

    heads: list[Head] = field(default_factory=list)  #: they have just been moved
    due: Sequence[Backlog] | None = None  #: none of it paused; None where nobody has looked
    woken: list[TurnId] = field(default_factory=list)  #: due, and perhaps somebody else's to tell


class Feeder:
    """One thread. A broker that is slow or away holds up nothing but this."""

    def __init__(
        self,
        database: Database,
        publisher: Publisher,
        *,
        slots: int,
        bulk_places: Callable[[], int] = lambda: sys.maxsize,
        on_long_queue: Callable[[Lane], None] = lambda _: None,
    ) -> None:
        """`bulk_places` tells how many more tasks of the bulk lane are of use to this process.

        `on_long_queue` is called about once a second for a lane with more hints than are taken at
        once.
        """
        self._database = database
        self._publisher = publisher
        self._slots = slots
        self._bulk_places = bulk_places
        self._on_long_queue = on_long_queue
        self._stopped = False
        self._news = News()
        self._has_news = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="turnmill-feed", daemon=True)
        #: Lanes with more that is due than was published, and the providers that it is for.
        self._more: dict[Lane, Sequence[str]] = {}

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def resize(self, slots: int) -> None:
        """Publish as much as keeps so many slots busy."""
        self._slots = slots

    def stop(self) -> None:
        """Publish nothing any more, and end the thread."""
        self.drain()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)
        self._publisher.close()

    def drain(self) -> None:
        """Publish nothing any more."""
        with self._has_news:
            self._stopped = True
            self._has_news.notify()

    def tell(self, news: News) -> None:
        """Tell workers soon. From any thread, without waiting for a broker."""
        with self._has_news:
            self._news.heads += news.heads[: _MOST_NEWS - len(self._news.heads)]
            self._news.woken += news.woken[: _MOST_NEWS - len(self._news.woken)]
            if news.due is not None:
                self._news.due = news.due
            self._has_news.notify()

    def feed(self, news: News) -> None:
        """Publish what is of use now."""
        self._publisher.announce(news.heads)
        if news.woken:
            with self._database.single() as conn:
                heads = note_announced(conn, news.woken)
            self._publish_noted(heads, bounded=True)
        if news.due is not None:
            self._more.clear()
            for lane in Lane:
                providers = [one.provider for one in news.due if one.lane is lane]
                if providers:
                    self._fill(lane, providers)

    def refill(self) -> None:
        """Fill up again, before the next look, what has been emptied meanwhile."""
        for lane, providers in list(self._more.items()):
            if self._is_drained(lane):
                del self._more[lane]
                self._fill(lane, providers)

    def _run(self) -> None:
        while (news := self._next()) is not None:
            try:
                self.feed(news)
                self.refill()
            except TurnmillError as error:
                logger.warning("feeder: %s; the next look tells them", error.code)
            except Exception as error:  # noqa: BLE001
                # The edge of this thread: without it, nobody would be told of what is due.
                logger.error("feeder failed: %s; the next look tells them", type(error).__name__)

    def _next(self) -> News | None:
        """Wait for news, or for a moment where queues are to be filled up; None at the end."""
        with self._has_news:
            if not self._stopped and self._news == News():
                self._has_news.wait(_GLANCE_SECONDS if self._more else None)
            news, self._news = self._news, News()
            return None if self._stopped else news

    def _fill(self, lane: Lane, providers: Sequence[str]) -> None:
        """Bring the lane's queue to about twice the slots, from the oldest heads on.

        Of the bulk lane only as many hints are published as tasks are of use here.
        """
        depth = self._publisher.depth(lane)
        if depth is None:
            return
        if depth >= min(_LONG_QUEUE, self._slots, self._publisher.hints_max):
            self._on_long_queue(lane)
        per_hint = TURNS_PER_HINT.get(lane, 1)
        room = self._wanted(lane) - depth
        if lane is Lane.BULK:
            room = min(room, self._bulk_places())
        if room <= 0:
            self._more[lane] = providers
            return
        if lane is Lane.INTERACTIVE:
            heads = self._choose(lane, providers, limit=room, depth=depth)
            self._publish_noted(heads, bounded=False)
            found = len(heads)
        else:
            found = self._count(lane, providers, limit=room * per_hint)
            self._publisher.announce_some(lane, found)
        # A hint of the bulk lane may be used up by a worker that has no room.
        if found >= room * per_hint or (found and lane is Lane.BULK):
            self._more[lane] = providers

    def _wanted(self, lane: Lane) -> int:
        """Return how many hints keep the slots of this process busy for a while."""
        hints = max(1, 2 * self._slots // TURNS_PER_HINT.get(lane, 1))
        return min(hints, _MOST_HINTS.get(lane, hints))

    def _publish_noted(self, heads: Sequence[Head], *, bounded: bool) -> None:
        """Publish heads that were noted as announced; take the notes back if that fails."""
        if self._publisher.announce(heads, bounded=bounded) < len(heads):
            with self._database.single() as conn:
                forget_announced(conn, heads)

    def _choose(
        self, lane: Lane, providers: Sequence[str], *, limit: int, depth: int
    ) -> list[Head]:
        with self._database.single() as conn:
            return announce_due(
                conn,
                lane,
                providers=providers,
                limit=limit,
                hints=depth,
                waits=_WAITS_BUSY,
                drained=_WAITS_DRAINED,
                among=2 * self._slots,
            )

    def _count(self, lane: Lane, providers: Sequence[str], *, limit: int) -> int:
        with self._database.single() as conn:
            return count_due(conn, lane, providers=providers, limit=limit)

    def _is_drained(self, lane: Lane) -> bool:
        if lane is Lane.BULK and self._bulk_places() < 1:
            return False
        depth = self._publisher.depth(lane)
        return depth is not None and depth <= self._wanted(lane) // 4
