"""Running the turns of a single-process store inside the application's own process."""

import asyncio
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from turnmill.domain.errors import StoreError
from turnmill.domain.states import Lane
from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill.store.line.due import expire_overdue, overdue, purge_deleted
from turnmill.store.line.leases import cancel_requested, end_leases, take_lost
from turnmill.store.nouns import reading
from turnmill.store.nouns.budgets import let_go, tell
from turnmill.store.records import Claim, Head, Lost
from turnmill.streams.copies import Copies
from turnmill_worker.gates.watch import Gates
from turnmill_worker.layers.holding import Stop
from turnmill_worker.pool.loops import run_to_end
from turnmill_worker.process.assembly import assemble
from turnmill_worker.process.closing import Closing
from turnmill_worker.process.elected import Elected
from turnmill_worker.process.feeding_batches import make_turns
from turnmill_worker.process.observing import Observing
from turnmill_worker.process.scheduling import make_runs
from turnmill_worker.process.tending import EVERY, tend_batches
from turnmill_worker.process.tidying import Tidying
from turnmill_worker.providers.boundary import name_of
from turnmill_worker.providers.own_prices import Prices, prices_in
from turnmill_worker.providers.registry import ProviderRegistry
from turnmill_worker.streams.carriers import carrier_to
from turnmill_worker.turn.deps import Deps
from turnmill_worker.turn.failing import warn_of_loss
from turnmill_worker.turn.in_hand import InHand
from turnmill_worker.turn.paid_ledger import PaidLedger
from turnmill_worker.turn.run import run_claim
from turnmill_worker.turn.slots import Slots

logger = logging.getLogger("turnmill.runner")

_SLOTS = 100
#: However much is due in one lane, the others get what is left.
_MOST_OF_A_LANE = 90
_LOOK_EVERY = timedelta(milliseconds=200)
_TIDY_EVERY = timedelta(minutes=1)
#: An application, or a person at a prompt, waits for this thread to end.
_LONGEST_GRACE = timedelta(seconds=6)


class InProcessRunner:
    """A thread with an event loop that runs what is due, until it is closed.

    It keeps order, retries and history as a worker does. Of several on one file one runs turns, and
    the others wait for its end. What it cannot promise: a turn that takes its process with it.
    """

    def __init__(
        self, database: Database, settings: Settings, copies: Copies | None = None
    ) -> None:
        """Raises InvalidSetting for layers or observers that are not there."""
        owner = f"in-process:{os.getpid()}"
        self._database = database
        self._grace = min(settings.grace, _LONGEST_GRACE)
        self._wakeup = asyncio.Event()
        self._closing = False
        self._kept = False  # by a vendor, though nobody needs it any more
        self._closer: asyncio.Task[None] | None = None
        self._look_at = 0.0  # on the loop's clock
        self._tidying = Tidying(database, settings)
        self._tidy_at = 0.0
        self._in_hand = InHand()
        self._elected = Elected(database.url.database)
        self._providers = ProviderRegistry()
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_lane: Counter[Lane] = Counter()  # of them
        self._ledger = PaidLedger(
            database,
            owner="in-process",
            lease=timedelta(days=1),
            held=self._in_hand.by_user,
            tags=settings.tags,
        )
        self._prices = prices_in(settings.prices, Prices())
        self._gates = self._new_gates(owner)
        self._deps = self._new_deps(settings, copies)
        self._observing = Observing(settings, database, owner=owner)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="turnmill-runner", daemon=True)
        self._thread.start()

    def _new_gates(self, owner: str) -> Gates:
        return Gates(
            self._database,
            owner=owner,
            account_of=self._providers.account_of,
            announce=self._on_head,
            slots=lambda: _SLOTS,
        )

    def _new_deps(self, settings: Settings, copies: Copies | None) -> Deps:
        return assemble(
            settings,
            database=self._database,
            ledger=self._ledger,
            in_hand=self._in_hand,
            slots=Slots(_SLOTS),
            provider=self._providers.get,
            announce=self._on_head,
            announce_at=lambda head, due_at: None,
            carrier=carrier_to(copies),
            gates=self._gates.layers,
        )

    def wake(self) -> None:
        """Look now for what is due."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wakeup.set)

    def close(self) -> None:
        """Let calls finish for the grace period, give back what was not sent, and stop."""
        self._closing = True
        self.wake()
        self._thread.join(timeout=self._grace.total_seconds() + 5.0)

    def _run(self) -> None:
        run_to_end(self._loop, self._main())

    async def _main(self) -> None:
        deps, ledger = self._deps, self._ledger
        closing = Closing(self._database, self._providers.get, self._prices)
        await self._begin()
        self._gates.start(self._loop)
        while not self._closing:
            self._wakeup.clear()
            began = False
            try:
                began = await self._start_due(deps, ledger)
            except StoreError as error:
                logger.warning("runner: %s; trying again", error.code)
            except Exception as error:  # noqa: BLE001
                # The edge of this thread: without it nothing would run any more.
                logger.error("runner: %s; trying again", name_of(error))
            await self._look()  # also while there is always something to begin
            if not began:
                await self._rest()
                self._give_up(closing)
        await self._finish()
        await self._observing.stop(within=self._grace, after_a_last_look=True)
        await self._close(closing)

    async def _close(self, closing: Closing) -> None:
        await closing.stop()
        await self._gates.stop()
        await self._deps.aclose()
        await self._providers.aclose()
        await asyncio.to_thread(self._ledger.stop)
        self._elected.give_back()

    def _on_head(self, head: Head) -> None:
        self._wakeup.set()

    async def _begin(self) -> None:
        """Take over, as soon as no other process runs the turns of this store, and it lets us."""
        while not self._closing:
            try:
                if self._elected.wins():
                    await asyncio.to_thread(self._take_over)
                    break
            except StoreError as error:
                logger.warning("runner: %s; trying again", error.code)
            except OSError as error:
                logger.warning("runner: no lock beside the file: %s; trying again", name_of(error))
            await asyncio.sleep(_LOOK_EVERY.total_seconds())
        self._observing.start(self._loop)

    def _take_over(self) -> None:
        """Take what an earlier process left running: no other one can hold it."""
        with self._database.begin() as conn:
            end_leases(conn)
            reading.free_all(conn)
            dead: list[Lost] = []
            while (moved := take_lost(conn, lease=timedelta(0))).turns:
                dead += moved.dead
        for one in dead:
            warn_of_loss(one)

    async def _start_due(self, deps: Deps, ledger: PaidLedger) -> bool:
        began = False
        for lane in sorted(Lane, key=lambda one: self._in_lane[one]):
            free = min(_SLOTS - len(self._tasks), _MOST_OF_A_LANE - self._in_lane[lane])
            claims = await ledger.claim_due(lane, limit=free)
            for claim in claims:
                self._in_lane[lane] += 1
                task = asyncio.get_running_loop().create_task(self._one(claim, deps, lane))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            began = began or bool(claims)
        return began

    async def _one(self, claim: Claim, deps: Deps, lane: Lane) -> None:
        try:
            await run_claim(claim, deps)
        except Exception as error:  # noqa: BLE001
            # The edge of a task that nobody waits for.
            logger.error("a turn ended with %s", name_of(error))
        finally:
            self._in_lane[lane] -= 1
            self._wakeup.set()
            self._observing.wake()

    def _give_up(self, closing: Closing) -> None:
        """Let vendors delete what nobody needs any more, beside the turns."""
        if self._kept and (self._closer is None or self._closer.done()):
            self._closer = self._loop.create_task(closing.run_in_background())

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_EVERY.total_seconds()):
                await self._wakeup.wait()

    async def _look(self) -> None:
        """Look at all that no turn wakes us for, unless that was done a moment ago."""
        if self._loop.time() < self._look_at:
            return
        try:
            await asyncio.to_thread(self._look_around)
        except StoreError as error:
            logger.warning("runner: %s; trying again", error.code)
        except Exception as error:  # noqa: BLE001
            # The edge of this thread, as above.
            logger.error("runner: %s; trying again", name_of(error))
        self._look_at = self._loop.time() + _LOOK_EVERY.total_seconds()

    def _look_around(self) -> None:
        with self._database.begin() as conn:
            expire_overdue(conn)
            purge_deleted(conn)
            cancelled = cancel_requested(conn)
            found = overdue(conn)
            if found.budgets:
                let_go(conn)
                tell(conn)
            self._kept = found.kept
        if found.scheduled:
            make_runs(self._database)
        if found.unfed:
            make_turns(self._database)
        if found.batches:
            tend_batches(self._database, every=EVERY)
        self._in_hand.cancelled(cancelled)
        if (now := time.monotonic()) >= self._tidy_at:  # no beat runs beside us
            self._tidy_at = now + _TIDY_EVERY.total_seconds()
            self._tidying.tidy()

    async def _finish(self) -> None:
        tasks: Sequence[asyncio.Task[None]] = list(self._tasks)
        if not tasks:
            return
        await asyncio.wait(tasks, timeout=self._grace.total_seconds())
        self._in_hand.close_all(Stop.DRAINING)
        await asyncio.wait(tasks, timeout=5.0)
