"""The one set of `Runtime` in a worker process, whatever pool it uses."""

import asyncio
import gc
import logging
import resource
import sys
import threading
import time
from typing import Any

from turnmill.domain.errors import UnsupportedByStore
from turnmill.forking import in_child, leave_to_parent
from turnmill.settings import Settings
from turnmill.store.capabilities import Capability, capabilities_at
from turnmill.store.database import Database
from turnmill.store.schema.revision import require_current
from turnmill_worker.pool.async_task import background_loop
from turnmill_worker.process.poller import Hints
from turnmill_worker.process.runtime import Runtime

logger = logging.getLogger("turnmill.process")

#: Allocations between two looks at what is young; thousands of turns in flight are not garbage.
_COLLECT_AFTER = 100_000
#: Seconds after which a thread that computes lets another one go on that waits. A turn passes from
#: thread to thread some ten times; behind a group of a batch's it would wait 5 ms each time.
_HANDS_OVER_AFTER = 0.0005


class Host:
    """Makes, starts and stops the runtime of this process; made anew in a forked child."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._runtime: Runtime | None = None
        self._slots = settings.concurrency
        self._least = 0  #: slots, however small the pool is made
        self.start_afresh()
        in_child(self)

    def start_afresh(self) -> None:
        """Leave the runtime to the parent: see `turnmill.forking`."""
        leave_to_parent(self._runtime)
        self._runtime = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def runtime(self) -> Runtime:
        """Return the runtime; a child of the prefork pool starts its own on first use."""
        if self._runtime is None:
            with self._lock:
                if self._runtime is None:
                    self._begin(background_loop())
        assert self._runtime is not None
        return self._runtime

    def database(self) -> Database:
        """Return the store of this process."""
        return self.runtime().database

    def start(self, pool: Any, hints: Hints, *, most: int | None = None) -> None:
        """Start beside the pool. On the asyncio pool, turns run on its loop and grow with it.

        `most` is what an autoscaled pool may grow to. It counts tasks, of which one may hold many
        turns, and shrinks when few tasks come: the turns are bounded by what it may grow to.
        """
        self._least = most or 0
        self._slots = most or int(pool.num_processes)
        _allow_open_files(self._slots)
        loop: asyncio.AbstractEventLoop = getattr(pool, "loop", None) or background_loop()
        with self._lock:
            self._begin(loop, hints=hints)
        pool.on_limit = self._resize

    def _resize(self, limit: int) -> None:
        slots = max(limit, self._least)
        _allow_open_files(slots)
        if self._runtime is not None:
            self._runtime.resize(slots)

    def drain(self) -> None:
        """Neither claim nor announce from now on."""
        if self._runtime is not None:
            self._runtime.drain()

    def stop(self, *, at_once: bool = False) -> None:
        """Wait until every verdict is written, as long as the grace period and a little more."""
        runtime, loop = self._runtime, self._loop
        if runtime is None or loop is None:
            return
        runtime.drain()
        if at_once:
            runtime.end_calls()
        patience = self.settings.grace.total_seconds() + 5.0
        deadline = time.monotonic() + patience
        while runtime.slots.in_use and time.monotonic() < deadline:
            time.sleep(0.01)
        asyncio.run_coroutine_threadsafe(runtime.stop(), loop).result(timeout=10.0)
        self._runtime = None

    def _begin(self, loop: asyncio.AbstractEventLoop, *, hints: Hints | None = None) -> None:
        runtime = Runtime(self.settings, slots=self._slots, hints=hints)

        gc.disable()  # what is imported now stays
        runtime.preload()
        spare_the_collector()
        sys.setswitchinterval(_HANDS_OVER_AFTER)

        async def start() -> None:
            runtime.start(asyncio.get_running_loop())

        if asyncio._get_running_loop() is loop:  # a turn of a forked child asks, from there
            runtime.start(loop)
        else:
            asyncio.run_coroutine_threadsafe(start(), loop).result(timeout=30.0)
        self._runtime, self._loop = runtime, loop


def _allow_open_files(slots: int) -> None:
    """Raise the soft limit of open files: each call in flight holds a connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * slots + 1024
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        if most < wanted:
            logger.warning("%d open files are allowed, %d turns want %d", most, slots, wanted)


def spare_the_collector() -> None:
    """Let the garbage collector look at what turns leave behind, and seldom at the rest.

    A full collection otherwise walks through everything that the SDKs and SQLAlchemy have made at
    import, again and again, while all turns of the process wait for it.
    """
    gc.freeze()
    gc.enable()
    gc.set_threshold(_COLLECT_AFTER, 10, 10)


def check_store(settings: Settings) -> None:
    """Raise unless workers can share this store and it has this version's tables."""
    if Capability.SHARED not in capabilities_at(settings.database_url):
        raise UnsupportedByStore("a Celery worker cannot share an SQLite store")
    database = Database(settings.database_url, schema=settings.schema, pool_size=1, overflow=0)
    try:
        with database.begin() as conn:
            require_current(conn, schema=database.schema)
    finally:
        database.close()
