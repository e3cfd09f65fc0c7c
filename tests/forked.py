"""Children made by fork, as servers make them, and what they have to say."""

import os
import pickle
import select
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

#: A child that says nothing for so long hangs.
PATIENCE = 20.0


class Forked(Generic[T]):
    """A child of this process that does its work and ends; `result` is what it came to."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._read, write = os.pipe()
        self.pid = fork()
        if self.pid == 0:
            _work(work, write)
        os.close(write)

    def result(self, *, within: float = PATIENCE) -> T:
        """Return what the work returned. Its error fails the test; so does a child that hangs."""
        said = self._said(deadline=time.monotonic() + within)
        os.close(self._read)
        if said is None:
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        assert said is not None, "the child hangs"
        assert said, "the child died"
        done, value = pickle.loads(said)
        assert done, value
        return value  # type: ignore[no-any-return]

    def _said(self, *, deadline: float) -> bytes | None:
        """Return all that the child wrote, or None when it did not come to an end."""
        said = b""
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self._read], [], [], left)[0]:
                continue
            part = os.read(self._read, 65_536)
            if not part:
                return said
            said += part
        return None


def forked(work: Callable[[], T], *, within: float = PATIENCE) -> T:
    """Return what the work comes to in a child."""
    return Forked(work).result(within=within)


def fork() -> int:
    """Fork, beside threads too."""
    with warnings.catch_warnings():  # of threads: they are what is tested
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _work(work: Callable[[], Any], write: int) -> None:
    try:
        said = (True, work())
    except BaseException:  # noqa: BLE001 - the edge of the child: the test shows what it was
        said = (False, traceback.format_exc())
    with os.fdopen(write, "wb") as pipe:
        pickle.dump(said, pipe)
    os._exit(0)
