"""The composition root of a process that runs turns: all that starts and stops together."""

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from turnmill.alive import State
from turnmill.broker.publisher import Publisher
from turnmill.domain.states import Lane
from turnmill.grouping import Grouped
from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill.store.encryption import keys_for
from turnmill.store.records import Head
from turnmill_worker.gates.watch import Gates
from turnmill_worker.layers.holding import Stop
from turnmill_worker.pool.loops import log_type
from turnmill_worker.process.alive import Alive
from turnmill_worker.process.assembly import assemble
from turnmill_worker.process.cancelling import Cancelling, CancelWatch
from turnmill_worker.process.closing import Closing
from turnmill_worker.process.dispatcher import Reactions
from turnmill_worker.process.dispatching import Dispatching
from turnmill_worker.process.heartbeat import Heartbeat
from turnmill_worker.process.measuring import Measuring, measuring
from turnmill_worker.process.observing import Observing
from turnmill_worker.process.poller import Hints
from turnmill_worker.process.quarantine import Quarantine
from turnmill_worker.process.telling_prices import tell_prices
from turnmill_worker.providers.own_prices import Prices, prices_in
from turnmill_worker.providers.pricing import preload as preload_prices
from turnmill_worker.providers.registry import ProviderRegistry
from turnmill_worker.streams.carriers import carrier_for
from turnmill_worker.turn.deps import Deps
from turnmill_worker.turn.in_hand import InHand
from turnmill_worker.turn.paid_ledger import PaidLedger
from turnmill_worker.turn.slots import Slots

logger = logging.getLogger("turnmill.works")

#: Hints for a later moment are kept in memory up to this many; the dispatcher sees to the rest.
_MOST_TIMERS = 10_000
_LONGEST_TIMER = timedelta(minutes=2)
#: Calls to observers may go on for so long when all turns are done.
_LAST_CALLS = timedelta(seconds=5)
#: A worker runs turns before it is connected to its broker, and counts as ready when that takes
#: longer than this.
CONNECTED_WITHIN = timedelta(seconds=3)
#: The dispatcher looks once a second, and waits for up to two where the database refuses.
_ANSWERS_WITHIN = timedelta(seconds=5)
#: Turns that a line of the log names.
_NAMED = 20


class Runtime:
    """Everything that runs turns in this process, on one event loop."""

    _loop: asyncio.AbstractEventLoop | None = None
    _connects_until = 0.0
    _timers = 0
    _observing: Observing | None = None
    _dispatching: Dispatching | None = None
    _cancels: CancelWatch | None = None
    _connected: Callable[[], bool] | None = None
    _alive: Alive | None = None

    def __init__(
        self, settings: Settings, *, slots: int, hints: Hints | None = None, owner: str = ""
    ) -> None:
        """With `hints`, this process dispatches; without, it runs what it is given."""
        self.settings = settings
        self.owner = owner or f"{socket.gethostname()}:{os.getpid()}"
        self.database = Database(
            settings.database_url, schema=settings.schema, keys=keys_for(settings)
        )
        self.in_hand = InHand()
        self.providers = ProviderRegistry()
        self.slots = Slots(slots)
        self.draining = threading.Event()
        self.publisher = Publisher(settings.broker_url, hints_max=settings.hints_max)
        self.ledger = self._new_ledger()
        self.quarantine = Quarantine(
            self.ledger, owner=self.owner, draining=self.draining, grace=settings.grace
        )
        self.closing = Closing(
            self.database, self.providers.get, prices_in(settings.prices, Prices())
        )
        self._hints: Grouped[Head, None] = Grouped("hints", self._publish, most=1000)
        self._heartbeat = Heartbeat(self.database, self.in_hand, lease=settings.lease)
        self._background: set[asyncio.Task[Any]] = set()
        self._grace: threading.Timer | None = None
        self._measuring = None if hints is None else self._new_measuring()
        self.gates = self._new_gates()
        self.deps = self._new_deps()
        if hints is None:
            self._cancels = self._new_cancel_watch()
        else:
            self._be_a_worker(hints)

    def _be_a_worker(self, hints: Hints) -> None:
        """Have what a child in quarantine does without: its worker has it."""
        self._observing = Observing(self.settings, self.database, owner=self.owner)
        self._dispatching = self._new_dispatching(hints)
        self._connected = hints.connected
        self._alive = Alive(self.settings, self._doing)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the threads, on the loop's thread, before any turn is taken."""
        self._loop = loop
        self._connects_until = time.monotonic() + CONNECTED_WITHIN.total_seconds()
        loop.set_exception_handler(log_type)
        self._heartbeat.start()
        self.gates.start(loop)
        if self._alive is not None:
            self._alive.start(loop)
        if self._measuring is not None:
            self._measuring.server.start()
        if self._dispatching is not None:
            self._dispatching.start(loop)
            telling = asyncio.to_thread(tell_prices, self.database, self.settings.prices)
            self._in_background(telling)
        if self._cancels is not None:
            self._cancels.start()
        if self._observing is not None:
            self._observing.start(loop)

    def resize(self, slots: int) -> None:
        """Run so many turns at once from now on. From any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.slots.resize, slots)
        if self._dispatching is not None:
            self._dispatching.resize(slots)

    def drain(self) -> None:
        """Take and announce nothing any more; close what still runs when the grace has passed."""
        if self.draining.is_set():
            return
        self.draining.set()
        if self._dispatching is not None:
            self._dispatching.drain()
        if self._observing is not None:
            self._observing.drain()
        self._grace = threading.Timer(self.settings.grace.total_seconds(), self.end_calls)
        self._grace.daemon = True
        self._grace.start()

    def end_calls(self) -> None:
        """Close what still runs, and say which turns that are: each may cost a second call."""
        turns = [str(turn_id) for turn_id, _ in self.in_hand.pairs()]
        if turns:
            logger.warning(
                "%d turns outlast this worker (TURNMILL_GRACE=%g): what was not sent is given back,"
                " of the rest the provider is asked what became of it: %s%s",
                len(turns),
                self.settings.grace.total_seconds(),
                ", ".join(turns[:_NAMED]),
                ", …" if len(turns) > _NAMED else "",
                extra={"action": "calls_outlast", "turns": len(turns)},
            )
        self.in_hand.close_all(Stop.DRAINING)

    async def stop(self) -> None:
        """Close providers and threads, after the last verdict was written."""
        if self._grace is not None:
            self._grace.cancel()
        if self._dispatching is not None:
            self._dispatching.stop_polling()
        if self._alive is not None:
            self._alive.stop()
        if self._observing is not None:
            await self._observing.stop(within=min(self.settings.grace, _LAST_CALLS))
        await self.closing.stop()
        await self.gates.stop()
        await self.deps.aclose()
        await self.providers.aclose()
        await asyncio.to_thread(self._stop_threads)

    def preload(self) -> None:
        """Import what the first turn would otherwise wait for. On any thread, before `start`."""
        preload_prices()
        for name, error in self.providers.preload().items():
            logger.error("provider %s cannot be used: %s", name, error.error_code)

    def announce(self, head: Head) -> None:
        """Tell a worker that the head is due, from the loop's thread, without blocking it.

        Where as many tasks claim bulk turns as are of use, they take what has just become due, too:
        each hint would be one task more, which finds that out.
        """
        if head.lane is Lane.BULK and self.slots.bulk_places() < 1:
            return
        self._hints.give(head)  # once we have stopped, the dispatcher of another worker finds it

    def _in_background(self, work: Coroutine[Any, Any, Any]) -> None:
        assert self._loop is not None
        task = self._loop.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def announce_at(self, head: Head, due_at: datetime) -> None:
        """Tell a worker at a later moment; should we be gone by then, the dispatcher will."""
        delay = due_at - datetime.now(UTC)
        if self._loop is None or delay > _LONGEST_TIMER or self._timers >= _MOST_TIMERS:
            return
        self._timers += 1
        self._loop.call_later(max(delay.total_seconds(), 0.0) + 0.002, self._ring, head)

    def _ring(self, head: Head) -> None:
        self._timers -= 1
        if not self.draining.is_set():
            self.announce(head)

    def _publish(self, heads: Sequence[Head]) -> list[None]:
        self.publisher.announce(heads)
        return [None] * len(heads)

    def _stop_threads(self) -> None:
        self.ledger.stop()
        self.deps.carrier.close()
        if self.deps.files is not None:
            self.deps.files.close()
        self._hints.stop()
        self._heartbeat.stop()
        if self._measuring is not None:
            self._measuring.server.stop()
        if self._dispatching is not None:
            self._dispatching.stop()
        if self._cancels is not None:
            self._cancels.stop()
        self.publisher.close()
        self._turns.close()
        self.database.close()

    def _doing(self) -> tuple[State, str]:
        """Return how this worker does, for whoever asks about its health."""
        looked_at = None if self._dispatching is None else self._dispatching.looked_at
        obstacle = "" if self._dispatching is None else self._dispatching.obstacle
        unusable = f"the database cannot be used: {obstacle}" if obstacle else ""
        now = time.monotonic()
        if self.draining.is_set():
            return State.STOPPING, f"{len(self.in_hand)} turns in hand"
        if looked_at is None:
            return State.STARTING, unusable or "the database has not answered yet"
        if now - looked_at > _ANSWERS_WITHIN.total_seconds():
            return State.WAITING, unusable or "the database does not answer"
        if self._connected is not None and self._connected():
            return State.READY, "consuming"
        if now < self._connects_until:
            return State.STARTING, "connecting to the broker"
        return State.READY, "polling: the broker does not answer"

    def _new_ledger(self) -> PaidLedger:
        """Return the ledger, on connections whose statements are planned once for all turns."""
        self._turns = Database(
            self.settings.database_url,
            schema=self.settings.schema,
            generic_plans=True,
            keys=self.database.keys,
        )
        return PaidLedger(
            self._turns,
            owner=self.owner,
            lease=self.settings.lease,
            held=self.in_hand.by_user,
            tags=self.settings.tags,
        )

    def _new_gates(self) -> Gates:
        return Gates(
            self.database,
            owner=self.owner,
            account_of=self.providers.account_of,
            announce=self.announce,
            slots=lambda: self.slots.total,
        )

    def _new_deps(self) -> Deps:
        return assemble(
            self.settings,
            database=self.database,
            ledger=self.ledger,
            in_hand=self.in_hand,
            slots=self.slots,
            provider=self.providers.get,
            announce=self.announce,
            announce_at=self.announce_at,
            accepting=lambda: not self.draining.is_set(),
            carrier=carrier_for(self.settings, self.database.keys),
            measuring=self._measuring,
            gates=self.gates.layers,
        )

    def _new_measuring(self) -> Measuring | None:
        """Return what counts and serves, where that is asked for; else nothing is even imported."""
        if self.settings.metrics_port is None:
            return None
        return measuring(
            self.settings,
            providers=self.providers.names(),
            database=self.database,
            ledger=self.ledger,
            in_hand=self.in_hand,
            slots=self.slots,
        )

    def _new_dispatching(self, hints: Hints) -> Dispatching:
        on_ended = self._observing.wake if self._observing and self.settings.observers else None
        return Dispatching(
            self.settings,
            hints,
            self.deps,
            keys=self.database.keys,
            ledger=self.ledger,
            quarantine=self.quarantine,
            cancelling=Cancelling(self.database, self.in_hand),
            reactions=Reactions(
                on_doubt=self._on_doubt,
                on_kept=self._on_kept,
                on_ended=on_ended,
                on_accounts=self.gates.wake,
            ),
        )

    def _new_cancel_watch(self) -> CancelWatch:
        """Return what listens where no dispatcher does; for one connection, and one to look."""
        url, listen_url = self.settings.database_url, self.settings.listen_url
        database = Database(
            url, schema=self.settings.schema, pool_size=1, overflow=0, listen_url=listen_url
        )
        return CancelWatch(database, self.in_hand)

    def _on_kept(self) -> None:
        if self._loop is not None:
            work = self.closing.run_in_background()
            self._loop.call_soon_threadsafe(self._in_background, work)

    def _on_doubt(self) -> None:
        if self._loop is not None:
            work = self.quarantine.prepare()
            self._loop.call_soon_threadsafe(self._in_background, work)
