"""What all our tasks are to Celery, whatever their app says of tasks in general."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from turnmill_worker.celery.strategy import PLAIN
from turnmill_worker.pool.async_task import AsyncTask

HINTED: Mapping[str, Any] = MappingProxyType(
    {
        "base": AsyncTask,
        # Not in every other app of the process, as Celery would have it.
        "shared": False,
        "Strategy": PLAIN,
        "ignore_result": True,
        "store_errors_even_if_ignored": False,
        # A hint is never run again by Celery: the row says what is due.
        "acks_late": False,
        "serializer": "json",
    }
)
