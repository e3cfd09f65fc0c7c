"""What a worker says of itself when `turnmill doctor` asks: an inspection of Celery's."""

import os
import resource
import socket
from typing import Any

from celery.worker.control import inspect_command

from turnmill import __version__
from turnmill.store.schema.revision import HEAD
from turnmill.wire import ABOUT, LANE_QUEUES
from turnmill_worker.providers.registry import ProviderRegistry


def register() -> None:
    """Let workers of this process answer."""
    inspect_command(name=ABOUT)(about)


def about(state: Any, **_: Any) -> dict[str, Any]:
    """Tell version and schema, which providers can be asked, and whose hints are taken.

    Of keys the names of those that are missing are told, and nothing else.
    """
    registry = ProviderRegistry(os.environ)
    names = registry.names()
    consumed = state.app.amqp.queues.consume_from
    return {
        "owner": f"{socket.gethostname()}:{os.getpid()}",  # as its leases say
        "version": __version__,
        "revision": HEAD,
        "providers": list(names),
        "lacks": {name: missing for name in names if (missing := registry.missing_key(name))},
        "lanes": [lane.value for lane, queue in LANE_QUEUES.items() if queue in consumed],
        "slots": int(state.consumer.pool.num_processes),
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    }
