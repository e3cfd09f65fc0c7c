"""Who is told that a turn is due: a broker, or the runner inside this process."""

import threading
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Protocol

from turnmill.broker.publisher import Publisher
from turnmill.domain.errors import MissingExtra
from turnmill.forking import in_child, leave_to_parent
from turnmill.settings import Settings
from turnmill.store.capabilities import Capability
from turnmill.store.database import Database
from turnmill.store.records import Head
from turnmill.streams.copies import Copies

#: The group of entry points by which the worker half gives us its runner: we never import it.
_RUNNERS = "turnmill.runners"


class Announcer(Protocol):
    """Takes hints. Whatever it does with them, the turns stand in the store."""

    def announce(self, heads: Sequence[Head]) -> int:
        """Pass hints on and return how many; never raises."""
        ...

    def close(self) -> None:
        """Let go of whatever it holds."""
        ...


class Silent:
    """No broker was named: dispatchers will find what is due."""

    def announce(self, heads: Sequence[Head]) -> int:
        """Do nothing."""
        return 0

    def close(self) -> None:
        """Do nothing."""


class InProcess:
    """Runs turns of a single-process store in this process, from the first message on.

    Not in its children, whose store refuses everything.
    """

    def __init__(self, database: Database, settings: Settings, copies: Copies) -> None:
        self._database = database
        self._settings = settings
        self._copies = copies
        self._lock = threading.Lock()
        self._runner: _Runner | None = None
        # Only here: Alembic costs a client 0.2 s to import, and most clients migrate nothing.
        from turnmill.store.schema import migrate, revision  # noqa: PLC0415

        with database.begin() as conn:
            if not database.can(Capability.LASTING):
                revision.create_all(conn)
        if database.can(Capability.LASTING):
            migrate.upgrade(database.url.render_as_string(hide_password=False))
            self._start()  # a file may hold turns of an earlier process
        in_child(self)

    def announce(self, heads: Sequence[Head]) -> int:
        """Wake the runner."""
        self._start().wake()
        return len(heads)

    def close(self) -> None:
        """Finish what runs, at most for a few seconds, and stop."""
        if self._runner is not None:
            self._runner.close()

    def start_afresh(self) -> None:
        """Leave the runner to the parent: see `turnmill.forking`."""
        leave_to_parent(self._runner)
        self._runner = None
        self._lock = threading.Lock()

    def _start(self) -> "_Runner":
        with self._lock:
            if self._runner is None:
                self._runner = _start_runner(self._database, self._settings, self._copies)
            return self._runner


class _Runner(Protocol):
    def wake(self) -> None: ...
    def close(self) -> None: ...


def announcer_for(
    database: Database, broker_url: str, settings: Settings, copies: Copies
) -> Announcer:
    """Return whom this store and broker go with. What runs turns here writes to `copies`."""
    if not database.can(Capability.SHARED):
        return InProcess(database, settings, copies)
    if not broker_url:
        return Silent()
    return Publisher(broker_url, hints_max=settings.hints_max)


def _start_runner(database: Database, settings: Settings, copies: Copies) -> _Runner:
    found = entry_points(group=_RUNNERS, name="in-process")
    try:
        runner_class = next(iter(found)).load()
    except ImportError as error:
        raise MissingExtra(
            f"a single-process store needs the worker half ({error.name} is missing)",
            hint="pip install 'turnmill[worker]'",
        ) from None
    runner: _Runner = runner_class(database, settings, copies)
    return runner
