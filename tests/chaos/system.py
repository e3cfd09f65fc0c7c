"""A small system under test: real servers, real worker processes, and the ways to hurt them.

    with Servers.start() as servers, System(servers, lease=timedelta(seconds=2)) as system:
        worker = system.start_worker()
        with system.client() as client:
            ...
        os.kill(worker.pid, signal.SIGKILL)

Start servers and workers from the main thread: a child ends with the thread that made it.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.conftest import copy_database, make_home
from tests.waiting import PATIENCE as PATIENCE
from tests.waiting import until as until
from turnmill import Client
from turnmill.domain.ids import TurnId
from turnmill.settings import Settings
from turnmill.store.schema import migrate
from turnmill_worker.providers.mock.executions import Call, Executions
from turnmill_worker.stack.home import Home
from turnmill_worker.stack.postgres import EmbeddedPostgres
from turnmill_worker.stack.process import Child, Program, wait_until
from turnmill_worker.stack.valkey import EmbeddedValkey

ROOT = Path(__file__).parents[2]
READY_WITHIN = timedelta(seconds=60)

_TEMPLATE = "chaos_template"
_LEDGER = "ledger.jsonl"
_database_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Servers:
    """A Postgres and a Valkey that may be killed, frozen and restarted."""

    home: Home
    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey

    @classmethod
    @contextmanager
    def start(cls) -> Iterator[Self]:
        home = make_home()
        with (
            EmbeddedPostgres(home.path, port=0, fsync=False) as postgres,
            EmbeddedValkey(home.path, port=0) as valkey,
        ):
            servers = cls(home, postgres, valkey)
            servers.administer(f'CREATE DATABASE "{_TEMPLATE}"')
            migrate.upgrade(postgres.url_of(_TEMPLATE))
            yield servers
            os.kill(valkey.pid, signal.SIGCONT)
        home.discard()

    def administer(self, statement: str) -> None:
        with psycopg.connect(self.postgres.url_of("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def redis(self) -> redis.Redis:
        """Return a connection that gives up early."""
        return redis.Redis.from_url(
            self.valkey.url, socket_timeout=5.0, retry=Retry(NoBackoff(), 0)
        )

    def crash_postgres(self) -> None:
        """End it as `pg_ctl stop -m immediate` does: no farewell, recovery at the next start."""
        child = self.postgres.pid
        os.kill(child, signal.SIGQUIT)
        self.postgres.stop()

    @contextmanager
    def frozen_redis(self) -> Iterator[None]:
        """Stop the process; connections stay open and nobody answers."""
        os.kill(self.valkey.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.valkey.pid, signal.SIGCONT)


@dataclass
class System:
    """One database, one ledger of the mock, and the workers on them."""

    servers: Servers
    lease: timedelta = timedelta(seconds=2)
    grace: timedelta = timedelta(seconds=6)
    environment: dict[str, str] = field(default_factory=dict)
    workers: dict[str, Child] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.database = f"chaos_{next(_database_numbers)}"
        self.folder = self.servers.home.folder(self.database)
        self.ledger = Executions(self.folder / _LEDGER)
        self._names = count(1)
        self._lock = threading.Lock()
        self._connection: psycopg.Connection | None = None

    def __enter__(self) -> Self:
        copy_database(self.servers.postgres, _TEMPLATE, self.database)
        self.servers.administer(f"ALTER DATABASE \"{self.database}\" SET search_path = ''")
        with self.servers.redis() as connection:
            connection.flushall()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self.workers.values():
            worker.kill()
        self._disconnect()
        self.servers.administer(f'DROP DATABASE "{self.database}" WITH (FORCE)')

    @property
    def database_url(self) -> str:
        return self.servers.postgres.url_of(self.database)

    @property
    def broker_url(self) -> str:
        return self.servers.valkey.url

    @property
    def variables(self) -> dict[str, str]:
        """What a process needs to find everything."""
        ours = {name: text for name, text in os.environ.items() if not name.startswith("TURNMILL_")}
        return {
            **ours,
            "TURNMILL_DATABASE_URL": self.database_url,
            "TURNMILL_BROKER_URL": self.broker_url,
            "TURNMILL_HOME": str(self.folder),
            "TURNMILL_LEASE": str(self.lease.total_seconds()),
            "TURNMILL_GRACE": str(self.grace.total_seconds()),
            "TURNMILL_MOCK_LEDGER": str(self.folder / _LEDGER),
            **self.environment,
        }

    def launch_worker(
        self,
        *,
        app: str = "turnmill_worker.app",
        concurrency: int = 50,
        queues: Sequence[str] = (),
        **variables: str,
    ) -> Child:
        """Start a worker, of these queues or of all, and return at once."""
        name = f"w{next(self._names)}"
        options = [f"--concurrency={concurrency}", f"--hostname={name}@%h", "--loglevel=INFO"]
        options += [f"--queues={','.join(queues)}"] if queues else []
        worker = self._celery(
            name, "-A", app, "worker", *options, "--without-gossip", "--without-mingle", **variables
        )
        self.workers[name] = worker
        return worker

    def start_worker(self, **options: Any) -> Child:
        """Start a worker and return when it is ready."""
        worker = self.launch_worker(**options)
        self.await_ready(worker)
        return worker

    def launch_beat(self, **variables: str) -> Child:
        """Start a beat and return at once."""
        name = f"beat{next(self._names)}"
        schedule = self.folder / f"{name}.schedule"
        beat = self._celery(
            name, "-A", "turnmill_worker.app", "beat", f"--schedule={schedule}", **variables
        )
        self.workers[name] = beat
        return beat

    def await_ready(self, *children: Child) -> None:
        for child in children:
            told = wait_until(
                lambda child=child: child.told_ready() or child.poll() is not None,  # type: ignore[misc]
                timeout=READY_WITHIN,
            )
            assert told, f"{child.program.name} was not ready in time"
            assert child.poll() is None, child.program.log.read_text()[-3000:]

    def client(self, **settings: Any) -> Client:
        return Client(
            settings=Settings(
                database_url=self.database_url, broker_url=self.broker_url, **settings
            )
        )

    def rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Ask the database; raises OperationalError while it is down."""
        with self._lock:
            try:
                return self._connected().execute(query, parameters).fetchall()
            except psycopg.OperationalError:  # it has been restarted since the last question
                self._disconnect()
                return self._connected().execute(query, parameters).fetchall()

    def _connected(self) -> psycopg.Connection:
        if self._connection is None:
            self._connection = psycopg.connect(self.database_url, autocommit=True)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def calls_of(self, turn_id: TurnId) -> list[Call]:
        """Return the calls that the provider got for a turn."""
        return self.ledger.calls_of(turn_id)

    def count_calls(self, event: str = "started") -> int:
        """Return how many calls the provider has got, or `completed`; cheaper than reading them."""
        path = self.folder / _LEDGER
        return path.read_bytes().count(f'"{event}"'.encode()) if path.exists() else 0

    def logs(self) -> str:
        """Return what all workers have said."""
        return "\n".join(worker.program.log.read_text() for worker in self.workers.values())

    def _celery(self, name: str, *arguments: str, **variables: str) -> Child:
        return Child.spawn(
            Program(
                name=name,
                argv=(sys.executable, "-m", "celery", *arguments),
                log=self.folder / f"{name}.log",
                env=self.variables | variables,
                cwd=ROOT,
                tells_ready=True,
            )
        )


def kill(child: Child) -> None:
    """End a process as a crash would, and wait until it is gone."""
    os.kill(child.pid, signal.SIGKILL)
    assert wait_until(lambda: child.poll() is not None, timeout=PATIENCE)
