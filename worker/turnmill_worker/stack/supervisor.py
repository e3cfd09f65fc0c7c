"""`turnmill up`: the whole system on one machine, from its first process to its last."""

import importlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from turnmill.broker.vitals import BrokerSilent, ask_broker
from turnmill.connections.broker_urls import read_broker_url
from turnmill.connections.shown import shown
from turnmill.role_urls import RoleUrls
from turnmill.running_home import READY_FILE, ROLE_FILES
from turnmill_worker.stack import leftovers
from turnmill_worker.stack.celery_parts import (
    BeatPart,
    CelerySetup,
    FlowerLogin,
    FlowerPart,
    WorkerPart,
)
from turnmill_worker.stack.errors import StackError
from turnmill_worker.stack.fleet import Fleet, StopRequested
from turnmill_worker.stack.home import Home
from turnmill_worker.stack.postgres import LOGINS, RUNTIME, VIEWER, EmbeddedPostgres
from turnmill_worker.stack.ready import Ready
from turnmill_worker.stack.valkey import EmbeddedValkey
from turnmill_worker.stack.wakeup import Wakeup
from turnmill_worker.stack.watch import Part, Patience, Watch

T = TypeVar("T")

SERVER_GRACE = timedelta(seconds=1.5)
AFTER_CALLS = timedelta(seconds=2)  #: for workers to write down what came of their calls


def _say_nothing(line: str) -> None:
    """Progress is not wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackOptions:
    """What `up` is told. An empty URL means: bring a server along."""

    home: Path
    database_url: str = field(default="", repr=False)
    #: as whom it migrates and Flower reads, both else as workers do; and who is granted a part
    roles: RoleUrls = field(default=RoleUrls(), repr=False)
    schema: str = "turnmill"
    broker_url: str = field(default="", repr=False)
    workers: int = 1
    concurrency: int = 1000
    call_grace: timedelta = timedelta(seconds=4)  #: how long calls may go on once it has to stop
    flower_login: FlowerLogin | None = None  #: None: a generated one
    app: str = "turnmill_worker.app"
    patience: Patience = field(default_factory=Patience)


class Stack:
    """Everything that `turnmill up` runs. Each is for one `run`."""

    def __init__(self, options: StackOptions, *, say: Callable[[str], None] = _say_nothing) -> None:
        self._options = options
        self._say = say
        self._home = Home(options.home)
        self._wakeup = Wakeup()
        self._fleet = Fleet(self._home, self._wakeup, patience=options.patience, say=say)
        self._valkey = None if options.broker_url else EmbeddedValkey(options.home)
        self._postgres = None if options.database_url else EmbeddedPostgres(options.home)
        self._servers: list[Watch] = []

    def run(self, on_ready: Callable[[Ready], None]) -> None:
        """Start everything, tell `on_ready`, and stay until asked to stop. In the main thread.

        Raises HomeInUse at once, and DidNotStart when a part died too often. Nothing that it
        started runs any more when it returns or raises.
        """
        with self._home.lock(), self._wakeup:
            leftovers.reap(self._home)
            try:
                ready = self._start()
                self._home.private_file(READY_FILE, ready.as_json() + "\n")
                on_ready(ready)
                self._fleet.stay()
            except StopRequested:
                seconds = self._options.call_grace.total_seconds()
                self._say(f"stopping: calls in flight have {seconds:g} s; Ctrl-C again ends them")
            finally:
                self._stop()

    def request_stop(self) -> None:
        """Make `run` return soon; from any thread."""
        self._wakeup.request_stop()

    def _start(self) -> Ready:
        migrations = _in_thread(_load_migrations)  # while the servers start
        self._start_servers()
        setup = self._celery_setup()
        self._finish(lambda: _check_broker(setup.broker_url))
        flower = FlowerPart(setup, login=self._options.flower_login or self._generated_login())
        listening = self._fleet.add(flower)
        self._say("migrating the database")
        self._finish(lambda: self._migrate(migrations.result(), setup.database_url))
        self._say(f"starting Flower, {self._options.workers} worker(s) and beat")
        # First who listens: what waits for the workers runs as soon as they start.
        self._fleet.until_ready([listening])
        watches = [self._fleet.add(part) for part in self._workers_and_beat(setup)]
        self._fleet.until_ready([listening, *watches])
        return Ready(
            database_url=setup.database_url,
            broker_url=setup.broker_url,
            flower_url=flower.url,
            pid=os.getpid(),
            home=self._home.path,
            data=self._postgres.data if self._postgres else None,
        )

    def _migrate(self, migrating: ModuleType, database_url: str) -> None:
        options = self._options
        if self._postgres is None:
            migrating.migrate_theirs(
                database_url,
                roles=options.roles,
                schema=options.schema,
            )
            return
        migrating.bring_along(self._postgres, schema=options.schema)
        for role, login in LOGINS.items():
            self._home.private_file(ROLE_FILES[role], self._postgres.url_as(login))

    def _start_servers(self) -> None:
        # Valkey starts while the files of Postgres are made.
        for server in (self._valkey, self._postgres):
            if server is not None:
                self._say(f"starting {server.name}")
                self._finish(server.prepare)
                self._servers.append(self._fleet.add(server))
        self._fleet.until_ready(self._servers)

    def _celery_setup(self) -> CelerySetup:
        options = self._options
        return CelerySetup(
            home=self._home,
            app=options.app,
            call_grace=options.call_grace,
            database_url=(
                self._postgres.url_as(RUNTIME) if self._postgres else options.database_url
            ),
            viewer_url=(self._postgres.url_as(VIEWER) if self._postgres else options.roles.viewer),
            broker_url=self._valkey.url if self._valkey else options.broker_url,
        )

    def _workers_and_beat(self, setup: CelerySetup) -> list[Part]:
        concurrency = self._options.concurrency
        numbers = range(1, self._options.workers + 1)
        workers = [WorkerPart(setup, number=n, concurrency=concurrency) for n in numbers]
        return [*workers, BeatPart(setup)]

    def _generated_login(self) -> FlowerLogin:
        return FlowerLogin("turnmill", self._home.secret("flower"))

    def _finish(self, call: Callable[[], object]) -> None:
        """Run what may take a while, and stay open for signals and deaths meanwhile."""
        running = _in_thread(call)
        running.add_done_callback(lambda _: self._wakeup.wake())
        self._fleet.until(running.done)
        running.result()

    def _stop(self) -> None:
        grace = self._options.call_grace + AFTER_CALLS
        self._fleet.stop(grace=grace, keep=self._servers)
        self._fleet.stop(grace=SERVER_GRACE)
        (self._home.path / READY_FILE).unlink(missing_ok=True)
        leftovers.forget_all(self._home)


def _check_broker(url: str) -> None:
    """Raise StackError when nobody answers: a worker would try again for ever."""
    broker = read_broker_url(url)
    if not broker.is_redis_like:
        return
    try:
        ask_broker(broker)
    except BrokerSilent as error:
        raise StackError(
            f"the broker at {shown(url)} cannot be used: {error}", hint=error.cause.remedy
        ) from None


def _in_thread(call: Callable[[], T]) -> Future[T]:
    """Run it beside the main thread; unlike an executor's, the thread holds up no exit."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _load_migrations() -> ModuleType:
    return importlib.import_module("turnmill_worker.stack.migrating")  # a second, when it is cold
