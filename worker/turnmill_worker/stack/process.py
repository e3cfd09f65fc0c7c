"""A child process: a session and a log of its own, and it never outlives this process."""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from turnmill_worker.celery import readiness
from turnmill_worker.stack import logfile
from turnmill_worker.stack.account import Account

_PR_SET_PDEATHSIG = 1
_LINUX = sys.platform.startswith("linux")
_libc = ctypes.CDLL(None, use_errno=True) if _LINUX else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run, and which signals it understands."""

    name: str
    argv: tuple[str, ...]
    log: Path
    env: Mapping[str, str] | None = field(default=None, repr=False)  #: None: that of this process
    cwd: Path | None = None
    account: Account | None = None  #: None: that of this process
    stop_signal: signal.Signals = signal.SIGTERM  #: asks it to end in good order
    hurry_signal: signal.Signals = signal.SIGTERM  #: asks it to leave everything and end
    #: what it gets when this process dies; None: nothing, it lives on
    orphan_signal: signal.Signals | None = signal.SIGKILL
    tells_ready: bool = False  #: it calls `readiness.tell`; where not, somebody has to ask it


class Child:
    """One run of a program."""

    def __init__(
        self, program: Program, popen: subprocess.Popen[bytes], ready_fd: int | None
    ) -> None:
        self.program = program
        self._ready_fd = ready_fd  # readable as soon as the child is ready, or has ended
        self._popen = popen

    @classmethod
    def spawn(cls, program: Program) -> Self:
        """Start the program. Call it from the main thread.

        Linux binds a child to the thread that made it, not to the process: one that was made
        by a thread dies with that thread.
        """
        reading, writing = os.pipe() if program.tells_ready else (None, None)
        try:
            popen = _popen(program, ready_fd=writing)
        except BaseException:
            _close(reading)
            raise
        finally:
            _close(writing)
        return cls(program, popen, reading)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs. What it left in its session is killed."""
        if self._popen.returncode is None and self._has_ended():
            self._kill_session()
        return self._popen.poll()

    def told_ready(self) -> bool:
        """Return whether the child has said so since the last call."""
        if self._ready_fd is None or not select.select([self._ready_fd], [], [], 0)[0]:
            return False
        said = os.read(self._ready_fd, 1)  # nothing: it ended without a word
        self._forget_ready_fd()
        return bool(said)

    def ask_to_stop(self) -> None:
        """Send the program's own stop signal; harmless when it has ended."""
        self._popen.send_signal(self.program.stop_signal)

    def hurry(self) -> None:
        """Ask once more, urgently."""
        self._popen.send_signal(self.program.hurry_signal)

    def kill(self) -> None:
        """Kill it and what is left of its session; returns when it is gone."""
        if self._popen.returncode is None:
            self._kill_session()
            self._popen.wait()
        self._forget_ready_fd()

    def _has_ended(self) -> bool:
        if not hasattr(os, "waitid"):
            return False
        seen = os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return seen is not None

    def _kill_session(self) -> None:
        # Safe only until the child is reaped: from then on its number may be somebody else's.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)

    def _forget_ready_fd(self) -> None:
        _close(self._ready_fd)
        self._ready_fd = None


def wait_until(condition: Callable[[], bool], *, timeout: timedelta) -> bool:
    """Ask `condition` again and again; return whether it came true within `timeout`."""
    deadline = time.monotonic() + timeout.total_seconds()
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _popen(program: Program, *, ready_fd: int | None) -> subprocess.Popen[bytes]:
    env = dict(os.environ if program.env is None else program.env)
    if ready_fd is not None:
        env[readiness.VARIABLE] = str(ready_fd)
    identity: dict[str, Any] = program.account.popen_arguments() if program.account else {}
    with logfile.open_for_child(program.log) as log, _fork_beside_threads():
        return subprocess.Popen(
            program.argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=program.cwd,
            start_new_session=True,  # Ctrl-C is for the supervisor; it stops them in order
            pass_fds=() if ready_fd is None else (ready_fd,),
            preexec_fn=_die_with_parent(program.orphan_signal),  # noqa: PLW1509 - see below
            **identity,
        )


@contextlib.contextmanager
def _fork_beside_threads() -> Iterator[None]:
    # Python 3.12 warns of locks that a child could find held by a thread that it does not have.
    # Ours makes two system calls before it becomes another program, and takes no lock.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
        yield


def _die_with_parent(orphan_signal: signal.Signals | None) -> Callable[[], None] | None:
    """Return what a child runs before its program; None where there is nothing to run."""
    libc, parent = _libc, os.getpid()
    if libc is None or orphan_signal is None:
        return None

    def bind() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(orphan_signal), 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return bind


def _close(fd: int | None) -> None:
    if fd is not None:
        os.close(fd)
