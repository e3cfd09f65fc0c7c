"""A Celery worker process on one pool or another, and what it tells the world."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import redis
from celery import states

from tests.integration import pool_app
from turnmill_worker.stack.process import wait_until

READY_WITHIN = timedelta(seconds=30)
GONE_WITHIN = timedelta(seconds=20)
SOON = timedelta(seconds=10)

POOLS = {"asyncio": "custom", "threads": "threads", "solo": "solo", "prefork": "prefork"}
_QUICK = ("--without-gossip", "--without-mingle", "--loglevel=INFO")


@dataclass(frozen=True, slots=True)
class Sent:
    """A task that was sent. Asks for its result, where Celery's own would subscribe to it."""

    id: str
    backend: Any

    @property
    def state(self) -> str:
        return str(self.backend.get_state(self.id))

    def get(self, *, within: timedelta = SOON) -> Any:
        """Return the result, or raise what the task has raised."""
        ended = wait_until(lambda: self.state in states.READY_STATES, timeout=within)
        assert ended, f"{self.state} after {within.total_seconds()} s"
        result = self.backend.get_result(self.id)
        if isinstance(result, BaseException):
            raise result
        return result


def emptied(broker_url: str) -> str:
    """Return the URL of a broker that holds nothing any more.

    A worker that a test has ended gave its tasks back, and whoever came next on the broker would
    be given them: they fill his slots for a minute, and stay unacknowledged for as long.
    """
    with redis.Redis.from_url(broker_url) as client:
        client.flushall()
    return broker_url


class PoolWorker:
    """A worker process in a `with` block; leaving the block kills it if it still runs."""

    def __init__(
        self,
        pool: str,
        broker_url: str,
        folder: Path,
        *options: str,
        conf: Sequence[str] = (),
        env: dict[str, str] | None = None,
        tasks: str = "pool_app",
    ) -> None:
        self.pool = pool
        self._tasks = f"tests.integration.{tasks}"
        self.broker_url = broker_url
        self.log = folder / f"{pool}.log"
        self.app = pool_app.make_app(broker_url)
        self._sender = pool_app.make_app(broker_url)
        self._sender.conf.result_backend = None
        self.broker = redis.Redis.from_url(broker_url, decode_responses=True)
        self.notes = redis.Redis.from_url(
            pool_app.with_database(broker_url, 2), decode_responses=True
        )
        self.name = f"{pool}@test"
        self._argv = [
            *(sys.executable, "-m", "celery", "-A", self._tasks, "worker"),
            *(f"--pool={POOLS[pool]}", f"--hostname={self.name}", *_QUICK, *options),
        ]
        self._env = os.environ | {
            "CELERY_CUSTOM_WORKER_POOL": "turnmill_worker.pool:TaskPool",
            pool_app.BROKER_VARIABLE: broker_url,
            pool_app.CONF_VARIABLE: "\n".join(conf),
            **(env or {}),
        }
        self.popen: subprocess.Popen[bytes] | None = None
        self.events: list[dict[str, Any]] = []
        self._receiver: Any = None
        self._listener: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._receiver is not None and self._listener is not None:
            self._receiver.should_stop = True
            self._listener.join(timeout=10)
        self.kill()
        self.app.backend.client.close()
        self.app.close()
        self._sender.close()
        self.broker.close()
        self.notes.close()

    def start(self) -> None:
        """Return when the worker is ready."""
        before = self.logged().count(" ready.")
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                self._argv, stdout=log, stderr=subprocess.STDOUT, env=self._env
            )
        popen = self.popen
        wait_until(
            lambda: popen.poll() is not None or self.logged().count(" ready.") > before,
            timeout=READY_WITHIN,
        )
        assert self.logged().count(" ready.") > before, self.logged()

    def listen(self) -> None:
        """Collect what the worker sends with `--task-events`, from now on."""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        assert wait_until(lambda: bool(self.events), timeout=SOON)

    def _listen(self) -> None:
        with self.app.connection_for_read() as connection:
            self._receiver = self.app.events.Receiver(
                connection, handlers={"*": self.events.append}
            )
            self._receiver.capture(limit=None, timeout=None, wakeup=True)

    def events_of(self, task_id: str) -> list[str]:
        return [event["type"] for event in self.events if event.get("uuid") == task_id]

    def send(self, name: str, *args: Any, **options: Any) -> Sent:
        """Send a task of the worker's module."""
        return self._send(f"{self._tasks}.{name}", args, options)

    def send_other(self, name: str, *args: Any, **options: Any) -> Sent:
        """Send a task of another module of these tests."""
        return self._send(f"tests.integration.{name}", args, options)

    def _send(self, task: str, args: Sequence[Any], options: dict[str, Any]) -> Sent:
        sent = self._sender.send_task(task, args=args, **options)
        return Sent(str(sent.id), self.app.backend)

    def inspect(self, question: str) -> Any:
        """Return this worker's answer to `celery inspect QUESTION`."""
        answers = getattr(self.app.control.inspect([self.name], timeout=5, limit=1), question)()
        return answers[self.name]

    def logged(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def unacknowledged(self) -> int:
        return int(self.broker.hlen("unacked"))

    def queued(self) -> int:
        return int(self.broker.llen("celery"))

    def running(self, gauge: str) -> int:
        return int(self.notes.get(f"{gauge}:running") or 0)

    def done(self, gauge: str) -> int:
        return int(self.notes.get(f"{gauge}:done") or 0)

    def peak(self, gauge: str) -> int:
        return int(self.notes.zscore(f"{gauge}:peak", "peak") or 0)

    def noted(self, what: str) -> bool:
        """Tell whether a task has counted this, once."""
        return self.notes.get(what) == "1"

    def signal(self, number: signal.Signals) -> None:
        assert self.popen is not None
        self.popen.send_signal(number)

    def gone(self) -> int:
        """Wait for the process to end; return its exit code."""
        assert self.popen is not None
        return self.popen.wait(timeout=GONE_WITHIN.total_seconds())

    def kill(self) -> None:
        if self.popen is not None:
            self.popen.kill()
            self.popen.wait()
