"""A worker that notes what holds up its event loops: `celery -A tests.chaos.watched_worker worker`.

Whatever takes one callback more than a few milliseconds of its thread's own time is a line of
TURNMILL_BLOCKS: other processes of the machine are none of its doing.
"""

import os
import time
from asyncio import events
from pathlib import Path
from typing import Any

from turnmill_worker.app import app

__all__ = ["app"]

_TOLD_FROM = 0.02
_handle: Any = events.Handle
_run = _handle._run
_blocks = Path(os.environ["TURNMILL_BLOCKS"])


def _timed(handle: events.Handle) -> None:
    began = time.thread_time()
    _run(handle)
    if (took := time.thread_time() - began) > _TOLD_FROM:
        with _blocks.open("a") as file:
            file.write(f"{took:.4f}\n")


_handle._run = _timed
