"""Turns that run beside the tasks whose slots they were given."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Beside:
    """Keeps their asyncio tasks, as many as there are slots, until they have ended."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def begin(self, turn: Coroutine[Any, Any, Any], *, then: Callable[[], object]) -> None:
        """Run it, which raises nothing, and call `then` at its end."""
        task = asyncio.get_running_loop().create_task(turn)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(lambda _: then())
