"""An asyncio pool for any Celery project: `TaskPool` and `AsyncTask`. It knows nothing of turns."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from turnmill_worker.pool.async_task import AsyncTask
    from turnmill_worker.pool.task_pool import TaskPool

__all__ = ["AsyncTask", "TaskPool"]

_HOMES = {"TaskPool": "task_pool", "AsyncTask": "async_task"}


def __getattr__(name: str) -> Any:
    """Import Celery's side of the pool for those who ask for it: event loops alone do not."""
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
