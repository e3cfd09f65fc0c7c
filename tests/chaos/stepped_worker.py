"""A worker whose wall clock is off: `celery -A tests.chaos.stepped_worker worker`.

TURNMILL_CLOCK_STEP says by how many seconds. Python code sees the wrong time wherever it asks.
"""

import datetime as dt
import os
import time
from datetime import datetime, timedelta, tzinfo
from types import SimpleNamespace
from typing import Self

STEP = timedelta(seconds=float(os.environ["TURNMILL_CLOCK_STEP"]))

_true_time = time.time


class SteppedDatetime(datetime):
    """Tells the wrong time."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        """Return the true time and the step."""
        return super().now(tz) + STEP


def stepped_time() -> float:
    """Return the true time and the step."""
    return _true_time() + STEP.total_seconds()


time.time = stepped_time
dt.datetime = SteppedDatetime  # type: ignore[misc]

from turnmill_worker.app import app  # noqa: E402
from turnmill_worker.providers.mock import executions as executions  # noqa: E402

__all__ = ["app"]

# The provider is another party: its clock is right.
executions.time = SimpleNamespace(time=_true_time)  # type: ignore[assignment,attr-defined]
