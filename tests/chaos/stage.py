"""The stage of the crash points: two workers that can be made to fall, and a client."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tests.chaos.books import Standstill
from tests.chaos.system import PATIENCE, ROOT, System, kill, until
from turnmill import Client
from turnmill.store.turn_records import AttemptRecord
from turnmill.sync.turns import Turn
from turnmill_worker.stack.process import Child

FAULTY = "tests.chaos.faulty_worker"  # never imported here: it would lay its traps in the test


class Stage:
    """What a test of a crash point works with. A worker that falls is replaced meanwhile."""

    def __init__(self, system: System, client: Client) -> None:
        self.system = system
        self.client = client
        self.trap = system.folder / "trap"
        self.standstills: list[Standstill] = []
        self._ready: list[Child] = []
        self._coming = [self._launch(), self._launch()]
        self.workers()

    def workers(self) -> list[Child]:
        """Return two sound workers; waits for those that are yet to be ready."""
        self._replace_the_gone()
        self.system.await_ready(*self._coming)
        self._ready += self._coming
        self._coming.clear()
        return self._ready

    def arm(self, point: str, how: str = "kill") -> None:
        """Let the next worker fall that passes the point."""
        self.workers()
        self.trap.write_text(f"{point} {how}")

    def session(self, **options: Any) -> str:
        return str(self.client.sessions.create(user_id="ada", **options).id)

    def send(self, *, session: str = "", script: Mapping[str, Any] | None = None) -> Turn:
        """Send a message, to a session of its own if none is given."""
        metadata = {"mock": dict(script)} if script else {}
        return self.client.send(session or self.session(), "said once", metadata=metadata)

    def await_call(self, turn: Turn) -> None:
        """Wait until the provider has got the turn."""
        until(lambda: self.system.calls_of(turn.id))

    def fall(self) -> None:
        """Wait until a worker has died in the trap, and let its successor come."""
        until(self._gone)
        self._replace_the_gone()

    def kill_owner(self, turn: Turn) -> None:
        """Kill the worker that runs the turn."""
        kill(self.owner(turn))
        self.fall()

    def owner(self, turn: Turn) -> Child:
        """Return the worker that runs the turn, itself or in its quarantine."""
        record = turn.refresh().record
        holder = (record.lease_owner or "").partition("/")[0]
        found = {f":{one.pid}": one for one in self.workers()}
        owner = next((one for pid, one in found.items() if holder.endswith(pid)), None)
        assert owner is not None, f"{record.state} by {record.lease_owner}, not one of {found}"
        return owner

    @contextmanager
    def frozen(self, *children: Child) -> Iterator[None]:
        """Stop processes for a while; all workers if none is named."""
        stopped, began_at = children or tuple(self.workers()), time.time()
        for child in stopped:
            os.kill(child.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for child in stopped:
                self.standstills.append(Standstill(child.pid, began_at, time.time()))
                os.kill(child.pid, signal.SIGCONT)

    def client_falls(self, point: str, session: str, key: str = "once") -> None:
        """Run a client that dies at the point."""
        done = subprocess.run(
            [sys.executable, "-m", "tests.chaos.faulty_client", point, session, key],
            env=self.system.variables,
            cwd=ROOT,
            timeout=PATIENCE.total_seconds(),
            check=False,
        )
        assert done.returncode == -signal.SIGKILL

    def _gone(self) -> list[Child]:
        return [child for child in [*self._ready, *self._coming] if child.poll() is not None]

    def _replace_the_gone(self) -> None:
        for gone in self._gone():
            # A successor may step into the trap before it is counted among the ready.
            (self._ready if gone in self._ready else self._coming).remove(gone)
            self._coming.append(self._launch())

    def _launch(self) -> Child:
        return self.system.launch_worker(app=FAULTY, TURNMILL_TRAP=str(self.trap))


def course(attempts: Sequence[AttemptRecord]) -> list[tuple[str, str | None]]:
    """Return (kind, outcome) of each attempt."""
    return [(one.kind, one.outcome) for one in attempts]
