"""What a forked child does with what it inherited: it leaves that to its parent, and begins anew.

A connection, a lock, a thread and an event loop belong to the process that made them. After a fork
two processes would read from one socket, each the other's answers, and a lock whose holder did not
come along is never released. So whatever holds one of these registers itself here.
"""

import os
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """Holds something that a child must not use."""

    def start_afresh(self) -> None:
        """Forget what belongs to the parent, and make locks anew.

        Called in a child before any code of its own, on the only thread that it has. Take no lock
        and close nothing: `leave_to_parent` is for what would close itself.
        """
        ...


#: Held while something large is imported. A child waits for ever for the import of a thread that
#: did not come along, so a fork waits until it is done.
importing = threading.RLock()

# State of the module, as a fork is one of the process.
_forkables: WeakSet[Forkable] = WeakSet()


def in_child(forkable: Forkable) -> None:
    """Let it start afresh in every child, as long as it lives. Call it when it is complete."""
    import ctypes  # noqa: F401, PLC0415  for `leave_to_parent`: a child had better import nothing

    _forkables.add(forkable)


def leave_to_parent(*things: object) -> None:
    """Keep these for as long as the process lives, and past its clean-up: nothing closes them.

    A driver that is freed says goodbye to its server, on the parent's connection too; SQLite would
    take back the parent's locks.
    """
    import ctypes  # noqa: PLC0415

    for thing in things:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def cut_off(descriptors: Iterable[int]) -> None:
    """Put a dead socket in the place of each of these sockets, in this process only.

    Whoever still holds one reads its end, and nothing that it writes reaches the parent's server,
    which no longer takes the parent for alive as long as this process lives.
    """
    with suppress(OSError):  # no descriptor left for the dead one: then they stay, and are not used
        dead, peer = socket.socketpair()
        peer.close()
        with dead:
            for descriptor in descriptors:
                os.dup2(dead.fileno(), descriptor, inheritable=False)


class Fork:
    """Tells whether this process is a child that was forked since."""

    def __init__(self) -> None:
        self.passed = False
        in_child(self)

    def start_afresh(self) -> None:
        """Note the fork."""
        self.passed = True


def _in_child() -> None:
    failures = []
    for forkable in list(_forkables):
        try:
            forkable.start_afresh()
        except Exception as error:  # noqa: BLE001
            # The beginning of a process: all others must be renewed none the less.
            failures.append(error)
    with suppress(RuntimeError):  # who forks in C may have left out the hook before
        importing.release()
    if failures:
        raise failures[0]  # Python writes it to stderr


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=importing.acquire, after_in_parent=importing.release, after_in_child=_in_child
    )
