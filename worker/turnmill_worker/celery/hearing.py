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
    return Hints(
        lanes=lambda: [
            lane for lane, name in wire.LANE_QUEUES.items() if name in queues.consume_from
        ],
        heard=lambda lane: state.total_count[_TASKS[lane]],
        connected=lambda: getattr(worker.consumer, "connection", None) is not None,
    )
