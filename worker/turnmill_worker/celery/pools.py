"""The pools that turns run on, and what is said of all others."""

import sys
from typing import Any

import click
from celery import _find_option_with_arg, concurrency
from celery.concurrency.solo import TaskPool as Solo
from celery.concurrency.thread import TaskPool as Threads
from click.core import ParameterSource

from turnmill.domain.errors import InvalidSetting
from turnmill_worker.pool.task_pool import TaskPool

POOL = "turnmill_worker.pool:TaskPool"

_HINT = (
    "leave --pool and worker_pool away for the asyncio pool, which holds a thousand turns in one"
    " process; threads and solo run turns, too"
)
_ASKED_FOR = frozenset({ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT})


def refuse_pool(pool: Any) -> None:
    """Raise InvalidSetting for a pool that turns cannot run on: processes, and green threads.

    Child processes are not told that their worker ends, and greenlets never let the event loop run
    on which turns wait: under either, turns would be left lying while the worker says "ready".
    """
    if _meant_processes(pool):
        raise InvalidSetting("turns do not run on the pool `prefork`", hint=_HINT)
    if not issubclass(pool, (TaskPool, Threads, Solo)):
        name = pool.__module__.removeprefix("celery.concurrency.")
        raise InvalidSetting(f"turns do not run on the pool `{name}`", hint=_HINT)


def _meant_processes(pool: Any) -> bool:
    """Tell whether somebody typed `prefork` and got ours: Celery takes it for its own default."""
    context = click.get_current_context(silent=True)
    if context is None or context.get_parameter_source("pool") not in _ASKED_FOR:
        return False
    if not issubclass(pool, TaskPool):
        return False
    if concurrency.ALIASES.get("custom") is None:
        return True  # by which other name could it have been asked for
    try:
        return bool(_find_option_with_arg(sys.argv, ["-P"], ["--pool"]) == "prefork")
    except (KeyError, IndexError):
        return False
