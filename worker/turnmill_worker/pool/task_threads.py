"""The threads in which ordinary tasks run: a few, and never waited for."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

from turnmill_worker.pool.loop import Job

logger = logging.getLogger("turnmill.pool")

#: Threads that may be left behind before they count as some of those that run: one that hangs
#: holds memory.
_MOST_LEFT = 64


class TaskThreads:
    """Runs jobs, `size` of them at once. All of it is called on the main thread.

    Python cannot end a thread. One whose job is given up is left behind, and another takes its
    place. They are daemons: unlike those of an executor they do not keep the process.
    """

    def __init__(self, size: int, run: Callable[[Job], None]) -> None:
        self._size = size
        self._run = run
        self._waiting: deque[Job] = deque()
        self._running: set[Job] = set()
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._threads = 0  #: that take jobs
        self.left = 0  #: that were left behind, and run on

    def submit(self, job: Job) -> None:
        """Run it, or let it wait for a thread."""
        self._waiting.append(job)
        self._start()

    def withdraw(self, job: Job) -> bool:
        """Forget a job that waits for a thread; False when it has one."""
        if job in self._running:
            return False
        self._waiting.remove(job)
        return True

    def withdraw_all(self) -> list[Job]:
        """Forget all jobs that wait for a thread; return them."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def ended(self, job: Job) -> None:
        """Start what waits in place of a job that has ended, or was given up and runs on."""
        if job not in self._running:
            return
        self._running.remove(job)
        if job.given_up:
            self._leave(job)
        self._start()

    def came_back(self) -> None:
        """Count a thread that was left behind and has ended after all."""
        self.left -= 1
        self._start()

    def stop(self) -> None:
        """Let idle threads end; the others are left to the end of the process."""
        for _ in range(self._threads):
            self._queue.put(None)

    def _leave(self, job: Job) -> None:
        self._threads -= 1
        self.left += 1
        logger.error(
            "%s runs on in its thread, which cannot be stopped; it is left behind (%d threads are)",
            *(job.name, self.left),
        )

    def _room(self) -> int:
        return self._size - max(self.left - _MOST_LEFT, 0) - len(self._running)

    def _start(self) -> None:
        while self._waiting and self._room() > 0:
            job = self._waiting.popleft()
            self._running.add(job)
            if self._threads < len(self._running):
                self._threads += 1
                threading.Thread(target=self._work, name="turnmill-sync", daemon=True).start()
            self._queue.put(job)

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            self._run(job)
            if job.given_up:
                return
