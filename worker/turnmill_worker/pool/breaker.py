"""Breaks into code that holds the event loop though it may not go on."""

import ctypes
import threading
from types import TracebackType
from typing import Any, Generic, TypeVar

import greenlet

Held = TypeVar("Held")


class Breaker(Generic[Held]):
    """Knows for whom the watched thread runs code just now, and raises an exception in there.

    The watched thread enters and leaves `Steps`; another one calls `strike`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread = 0
        self._current: Held | None = None
        self._struck = False

    @property
    def current(self) -> Held | None:
        """For whom code runs."""
        return self._current

    def strike(self, held: Held) -> None:
        """Raise GreenletExit where the code of `held` is, if that still runs; not while it is in C.

        A class that neither a task's `except Exception` nor Celery's tracer takes for an error.
        """
        with self._lock:
            if self._current is held:
                self._struck = True
                _raise_in(self._thread, greenlet.GreenletExit)

    def enter(self, held: Held) -> None:
        self._thread = threading.get_ident()
        self._current = held

    def leave(self) -> None:
        with self._lock:
            self._current = None
            struck, self._struck = self._struck, False
        if struck:
            _raise_in(self._thread, None)  # it may have come too late: whoever is next is innocent


class Steps(Generic[Held]):
    """In a `with` block of this, code runs for `held`; entered any number of times."""

    __slots__ = ("_breaker", "_held")

    def __init__(self, breaker: Breaker[Held], held: Held) -> None:
        self._breaker = breaker
        self._held = held

    def __enter__(self) -> None:
        self._breaker.enter(self._held)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._breaker.leave()


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    what: Any = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), what)
