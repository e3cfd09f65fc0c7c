"""What Celery's consumer knows of the hints that a worker gets."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from celery.worker import state

from turnmill import wire
from turnmill.domain.states import Lane
from turnmill_worker.process.poller import Hints

_TASKS: Mapping[Lane, str] = MappingProxyType(
    {
        Lane.INTERACTIVE: wire.RUN_TURN,
        Lane.BULK: wire.RUN_BULK,
        Lane.QUARANTINE: wire.RUN_QUARANTINE,
    }
)


def hints_of(worker: Any) -> Hints:
    """Return what can be asked about a worker's hints. Celery counts them; a turn pays nothing."""
    queues = worker.app.amqp.queues
    forks = any(kind.__module__ == "celery.concurrency.prefork" for kind in type(worker.pool).mro())

    def elsewhere() -> int:
        # Without a connection the main thread hears of no end: nothing is counted then.
        connected = worker.consumer is not None and worker.consumer.connection is not None
        return len(state.active_requests) if forks and connected else 0

    return Hints(
        lanes=lambda: [
            lane for lane, name in wire.LANE_QUEUES.items() if name in queues.consume_from
        ],
        heard=lambda lane: state.total_count[_TASKS[lane]],
        elsewhere=elsewhere,
    )
