"""The dispatcher: finds what is due, lost or overdue, and has workers told, about once a second."""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from turnmill.domain.errors import SessionBusy, StoreError, StoreUnavailable, TurnmillError
from turnmill.domain.ids import TurnId
from turnmill.listening.notices import Notice, turns_on
from turnmill.listening.thread import SLICE_SECONDS, Listener, Untold, listen
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.line.backlogs import Backlog, backlogs
from turnmill.store.line.due import Overdue, expire_overdue, overdue, purge_deleted
from turnmill.store.line.leases import late_heartbeats, take_lost
from turnmill.store.line.pauses import Pauses, read_pauses
from turnmill.store.nouns.budgets import let_go, tell
from turnmill.store.nouns.wishes import grant_one
from turnmill.store.records import Head, Moved
from turnmill.wire import ACCOUNTS_CHANNEL, CANCEL_CHANNEL, SETTLED_CHANNEL, WAKE_CHANNEL
from turnmill_worker.process.feeder import News
from turnmill_worker.process.feeding_batches import make_turns
from turnmill_worker.process.scheduling import make_runs
from turnmill_worker.process.tending import EVERY, tend_batches
from turnmill_worker.turn.failing import warn_of_loss

logger = logging.getLogger("turnmill.dispatcher")

TICK = timedelta(seconds=1)
#: So many notices are taken before the thread looks whether it was stopped.
_NOTICES = 100
_CHUNK = 500
_WISHES = 50  #: in a tick


def _nothing() -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reactions:
    """What a process does about what its dispatcher hears and finds. None of it waits."""

    #: about ten times a second, with the turns that are to be cancelled
    on_cancel: Callable[[Sequence[TurnId]], None] = lambda _: None
    on_deaf: Callable[[], None] = _nothing  #: some may have been named, and nobody listened
    listen: Callable[[], None] = _nothing  #: about ten times a second, whether hints come
    on_due: Callable[[], None] = _nothing  #: something was due at a look, and not yet taken
    on_doubt: Callable[[], None] = _nothing  #: a worker seems to be about to lose its leases
    on_kept: Callable[[], None] = _nothing  #: vendors keep what nobody needs any more
    on_ended: Callable[[], None] | None = None  #: turns have ended
    on_accounts: Callable[[], None] = _nothing  #: an account, or a limit, has changed


class Dispatcher:
    """Two threads, with a connection each. Any number of dispatchers may run at once.

    One looks, the other listens: who is named waits for nothing that is overdue, such as the turns
    of a worker that has died. They know the database only: a broker that is away makes them no
    slower.
    """

    def __init__(
        self,
        database: Database,
        *,
        lease: timedelta,
        tell: Callable[[News], None],
        reactions: Reactions = Reactions(),
    ) -> None:
        """`tell` has workers told, and never waits for a broker."""
        self._database = database
        self._lease = lease
        self._tell = tell
        self._reactions = reactions
        # By the last one it is known that a worker listens: clients listen to settled ones, too.
        ended = [] if reactions.on_ended is None else [SETTLED_CHANNEL]
        self._channels = [WAKE_CHANNEL, CANCEL_CHANNEL, *ended, ACCOUNTS_CHANNEL]
        self._stopped = threading.Event()
        self._draining = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(work,), name=name, daemon=True)
            for name, work in (("turnmill-dispatch", self._look), ("turnmill-listen", self._listen))
        ]
        self._failures = 0
        self.looked_at: float | None = None  #: when the database last answered; None: not yet
        self.obstacle = ""  #: why it did not when it was asked last, in a word

    def start(self) -> None:
        """Start the threads."""
        for one in self._threads:
            one.start()

    def drain(self) -> None:
        """Have nothing told any more: this process will not run it. Leases are still watched."""
        self._draining.set()

    def stop(self) -> None:
        """End the threads."""
        self._stopped.set()
        for one in self._threads:
            if one.is_alive():
                one.join(timeout=5.0)

    def tick(self) -> None:
        """Look once at everything. Each step is a transaction of its own."""
        with self._database.single() as conn:
            found = overdue(conn)
            pauses = read_pauses(conn)
            doubtful = not self._draining.is_set() and late_heartbeats(conn, lease=self._lease)
            waiting = backlogs(conn)
        due = _open(waiting, pauses)
        if due:
            self._reactions.on_due()
        heads = self._catch_up(found)
        if found.deleted:
            self._database.run(purge_deleted)
        if not self._draining.is_set():
            self._say(News(heads=heads, due=due), doubtful=doubtful, kept=found.kept)
        self.looked_at, self.obstacle = time.monotonic(), ""

    def _catch_up(self, found: Overdue) -> list[Head]:
        """Do what has had its time, and return the heads that are due by it."""
        heads: list[Head] = []
        if found.lost:
            heads += self._repeat(lambda conn: take_lost(conn, lease=self._lease, limit=_CHUNK))
        if found.expired:
            heads += self._repeat(lambda conn: expire_overdue(conn, limit=_CHUNK))
        if found.wished:
            heads += self._grant_wishes()
        if found.budgets:
            heads += self._tend_budgets()
        if found.scheduled and not self._draining.is_set():
            heads += make_runs(self._database)
        if found.batches:
            heads += tend_batches(self._database, every=EVERY)
        if found.unfed and not self._draining.is_set():
            heads += make_turns(self._database)
        return heads

    def _repeat(self, step: Callable[[Any], Moved]) -> list[Head]:
        """Run a step until it moves less than a chunk, at most a few times in a tick."""
        heads: list[Head] = []
        for _ in range(20):
            try:
                with self._database.begin() as conn:
                    moved = step(conn)
            except SessionBusy:
                break  # in the next tick; all else that is due must not wait for it
            heads += moved.heads
            for one in moved.dead:
                warn_of_loss(one)
            if moved.turns < _CHUNK // 2:
                break
        return heads

    def _tend_budgets(self) -> list[Head]:
        """Tell of shares that are spent, and let those look again who waited for a change."""
        self._database.run(tell)
        return self._repeat(let_go)

    def _say(self, news: News, *, doubtful: bool, kept: bool) -> None:
        if doubtful:
            self._reactions.on_doubt()
        if kept:
            self._reactions.on_kept()
        self._tell(news)

    def _grant_wishes(self) -> list[Head]:
        """Do what was asked for by those who may only look; the rest in the next tick."""
        heads: list[Head] = []
        try:
            for _ in range(_WISHES):
                with self._database.begin() as conn:
                    granted = grant_one(conn, new_id=TurnId(new_id()))
                if granted is None:
                    break
                heads += granted
        except TurnmillError as error:  # all else that is due must not wait for it
            logger.warning("a wish: %s; trying again", error.code)
        return heads

    def _run(self, work: Callable[[], None]) -> None:
        while not self._stopped.is_set():
            try:
                work()
            except TurnmillError as error:
                if work == self._look:
                    self.obstacle = _word_of(error)
                logger.warning("dispatcher: %s [%s]; trying again", error, error.code)
            except Exception as error:  # noqa: BLE001
                # The edge of a thread: without it, nothing lost would be found again.
                logger.error("dispatcher failed: %s; trying again", type(error).__name__)
            self._failures += 1
            self._stopped.wait(1.0 + random.random())

    def _look(self) -> None:
        while not self._stopped.is_set():
            self.tick()
            self._stopped.wait(_with_jitter(TICK))

    def _listen(self) -> None:
        """Listen on one connection until it fails, or a look does: who is gone says nothing."""
        failures = self._failures
        with listen(self._database, self._channels) as listener:
            self._reactions.on_deaf()
            while not (self._stopped.is_set() or listener.is_over or failures != self._failures):
                self._listen_until(listener, time.monotonic() + _with_jitter(TICK))
                if isinstance(listener, Untold):
                    self._reactions.on_deaf()

    def _listen_until(self, listener: Listener | Untold, end: float) -> None:
        while not self._stopped.is_set() and (left := end - time.monotonic()) > 0:
            self._on_notices(listener.hear(min(left, SLICE_SECONDS), most=_NOTICES))
            self._reactions.listen()

    def _on_notices(self, notices: Sequence[Notice]) -> None:
        """Have those looked at who are named. Whoever can connect can notify: rows decide."""
        self._reactions.on_cancel(turns_on(CANCEL_CHANNEL, notices))
        woken = turns_on(WAKE_CHANNEL, notices)
        if any(one.channel == ACCOUNTS_CHANNEL for one in notices):
            self._reactions.on_accounts()
        on_ended = self._reactions.on_ended
        if on_ended is not None and any(one.channel == SETTLED_CHANNEL for one in notices):
            on_ended()
        if woken and not self._draining.is_set():
            self._tell(News(woken=woken))


def _word_of(error: TurnmillError) -> str:
    """Return what doctor calls it, too; empty where the database is away, and that is all."""
    reason = error.reason if isinstance(error, StoreError) else ""
    return reason or ("" if type(error) is StoreUnavailable else error.code)


def _open(waiting: Sequence[Backlog], pauses: Pauses) -> list[Backlog]:
    """Return what is due and not paused."""
    return [
        one
        for one in waiting
        if one.due and one.lane not in pauses.lanes and one.provider not in pauses.providers
    ]


def _with_jitter(period: timedelta) -> float:
    return period.total_seconds() * (0.8 + 0.4 * random.random())
