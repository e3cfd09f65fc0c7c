"""The one door into the broker: hints that a turn is due, ids only, lost at no cost."""

import logging
import os
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from turnmill.domain.states import Lane
from turnmill.forking import importing, in_child, leave_to_parent
from turnmill.store.records import Head
from turnmill.wire import LANE_QUEUES, RUN_BULK, RUN_QUARANTINE, RUN_TURN

if TYPE_CHECKING:
    from kombu.connection import Connection
    from kombu.messaging import Producer

    from turnmill.connections.brokers import Broker

logger = logging.getLogger("turnmill.queue")

#: One hint of these lanes lets a worker take this many turns.
TURNS_PER_HINT = {Lane.BULK: 100, Lane.QUARANTINE: 50}

#: Lane, task, task id, arguments.
_Hint = tuple[Lane, str, str, list[str]]

#: After a failure nothing is tried for this long: the dispatcher publishes what was left out.
_BREAK_SECONDS = 2.0
_DEPTH_SECONDS = 0.05
#: To connect, and to be answered: a caller waits for both, and for no more than a second.
_TIMEOUT_SECONDS = 0.4
_REDIS_OPTIONS: Mapping[str, Any] = {
    "socket_timeout": _TIMEOUT_SECONDS,
    "socket_connect_timeout": _TIMEOUT_SECONDS,
    "socket_keepalive": True,
    "health_check_interval": 0,
    "max_retries": 0,
    "priority_steps": [0],
}
_AMQP_OPTIONS: Mapping[str, Any] = {
    "read_timeout": _TIMEOUT_SECONDS,
    "write_timeout": _TIMEOUT_SECONDS,
    "max_retries": 0,
}
#: By the kind of broker.
_TIMES: Mapping[str, Mapping[str, Any]] = {
    "redis": _REDIS_OPTIONS,
    "sentinel": _REDIS_OPTIONS,
    "rabbitmq": _AMQP_OPTIONS,
    "memory": {},
}
#: What else Celery may say in a body: nothing follows a turn. Each worker that waits keeps it.
_EMBED: Mapping[str, Any] = {}


class Publisher:
    """Tells workers what is due. Thread-safe, and safe to use after a fork."""

    def __init__(self, broker_url: str, *, hints_max: int) -> None:
        # Whoever only imports the client has no broker yet.
        from turnmill.connections.broker_urls import read_broker_url  # noqa: PLC0415

        self._broker = read_broker_url(broker_url)
        self.hints_max = hints_max
        self._connection: Connection | None = None
        self._broken_until = 0.0
        self._producer: Producer | None = None
        self.start_afresh()
        in_child(self)

    def start_afresh(self) -> None:
        """Connect anew: see `turnmill.forking`."""
        leave_to_parent(self._producer, self._connection)
        self._producer = self._connection = None
        self._lock = threading.Lock()
        self._depths: dict[Lane, tuple[float, int]] = {}
        self._origin = f"{os.getpid()}@{socket.gethostname()}"

    def announce(self, heads: Sequence[Head], *, bounded: bool = True) -> int:
        """Publish hints for these heads and return how many; never raises.

        With `bounded`, nothing is published for a lane whose queue already holds `hints_max`
        hints. A broker that is down costs one caller at most a second, and then for two seconds
        nobody anything: the message stands in the store, and workers find it.
        """
        return self._try(list(_hints(heads)), bounded=bounded)

    def announce_some(self, lane: Lane, turns: int) -> int:
        """Publish what has so many due turns of a lane taken whose hints name none.

        As `announce` does, without a bound.
        """
        return self._try(list(_nameless(lane, turns)), bounded=False)

    def _try(self, hints: list[_Hint], *, bounded: bool) -> int:
        if not hints or time.monotonic() < self._broken_until:
            return 0
        with self._lock:
            if time.monotonic() < self._broken_until:
                return 0
            try:
                return self._publish(hints, bounded=bounded)
            except Exception as error:  # noqa: BLE001
                # The edge to the broker: whatever went wrong there must not fail a send.
                self._broken_until = time.monotonic() + _BREAK_SECONDS
                self._drop()
                from turnmill.connections.broker_causes import cause_of  # noqa: PLC0415  seldom

                logger.warning(
                    "broker cannot be used: %s; the dispatcher will announce what is due",
                    cause_of(error),
                    extra={"action": "announce_failed", "hints": len(hints)},
                )
                return 0

    def depth(self, lane: Lane) -> int | None:
        """Return how many hints wait in the lane's queue, or None when the broker is down."""
        if time.monotonic() < self._broken_until:
            return None
        with self._lock:
            if time.monotonic() < self._broken_until:
                return None
            try:
                return self._measure(lane)
            except Exception as error:  # noqa: BLE001
                self._broken_until = time.monotonic() + _BREAK_SECONDS
                self._drop()
                from turnmill.connections.broker_causes import cause_of  # noqa: PLC0415  seldom

                logger.warning("broker cannot be used: %s", cause_of(error))
                return None

    def close(self) -> None:
        """Close the connection to the broker."""
        with self._lock:
            self._drop()

    def _publish(self, hints: list[_Hint], *, bounded: bool) -> int:
        room = {lane: self._room(lane) for lane in {hint[0] for hint in hints}} if bounded else {}
        producer = self._connected()
        sent: Counter[Lane] = Counter()
        with producer.batch():
            for lane, task, task_id, args in hints:
                if bounded and sent[lane] >= room[lane]:
                    continue
                self._put(producer, LANE_QUEUES[lane], task, task_id, args)
                sent[lane] += 1
        for lane, count in sent.items():
            if lane in self._depths:
                measured_at, depth = self._depths[lane]
                self._depths[lane] = (measured_at, depth + count)
        return sent.total()

    def _put(
        self, producer: "Producer", queue: str, task: str, task_id: str, args: list[str]
    ) -> None:
        """Write one message of Celery's protocol 2."""
        producer.publish(
            (args, {}, _EMBED),
            exchange="",
            routing_key=queue,
            serializer="json",
            delivery_mode=2,
            correlation_id=task_id,
            headers={
                "lang": "py",
                "task": task,
                "id": task_id,
                "root_id": task_id,
                "parent_id": None,
                "group": None,
                "argsrepr": str(args),
                "kwargsrepr": "{}",
                "retries": 0,
                "eta": None,
                "expires": None,
                "timelimit": [None, None],
                "ignore_result": True,
                "origin": self._origin,
            },
        )

    def _room(self, lane: Lane) -> int:
        measured_at, depth = self._depths.get(lane, (0.0, 0))
        if time.monotonic() - measured_at > _DEPTH_SECONDS:
            depth = self._measure(lane)
            self._depths[lane] = (time.monotonic(), depth)
        return max(0, self.hints_max - depth)

    def _measure(self, lane: Lane) -> int:
        channel: Any = self._connected().channel
        # What kombu's virtual transports ask their server. A passive declaration over Redis asks
        # first whether the queue exists: a round trip more, and a lone send waits for it.
        if size := getattr(channel, "_size", None):
            return int(size(LANE_QUEUES[lane]))
        from kombu.exceptions import ChannelError  # noqa: PLC0415

        try:
            found = channel.queue_declare(LANE_QUEUES[lane], passive=True)
        except ChannelError:
            return 0
        return int(found.message_count)

    def _connected(self) -> "Producer":
        if self._producer is None:
            self._connection = connect(self._broker)
            producer = self._connection.Producer(auto_declare=False)
            _keep_client(producer.channel)
            self._producer = producer
        return self._producer

    def _drop(self) -> None:
        connection, self._connection, self._producer = self._connection, None, None
        self._depths.clear()
        if connection is None:
            return
        try:
            connection.collect()  # closes without a farewell round trip, and never connects anew
        except Exception as error:  # noqa: BLE001
            logger.debug("closing a broken broker connection: %s", type(error).__name__)


def connect(broker: "Broker") -> "Connection":
    """Return a lazy connection with short timeouts."""
    with importing:
        from kombu.connection import Connection  # noqa: PLC0415

    said = broker.for_kombu(_TIMES[broker.kind])
    return Connection(
        said.url,
        ssl=said.ssl or False,
        connect_timeout=_TIMEOUT_SECONDS,
        transport_options=said.options,
    )


def _keep_client(channel: Any) -> None:
    """Let kombu's Redis channel keep its client: it makes one for each message, in 0.3 ms."""
    if make := getattr(channel, "Client", None):
        channel.Client = lru_cache(maxsize=2)(make)  # by its pool of connections


def _hints(heads: Iterable[Head]) -> Iterable[_Hint]:
    """Yield one for each interactive turn, few for the others."""
    counts: Counter[Lane] = Counter()
    for head in heads:
        if head.lane is Lane.INTERACTIVE:
            turn_id = str(head.turn_id)
            yield head.lane, RUN_TURN, turn_id, [turn_id]
        else:
            counts[head.lane] += 1
    for lane, count in counts.items():
        yield from _nameless(lane, count)


def _nameless(lane: Lane, turns: int) -> Iterable[_Hint]:
    task = RUN_BULK if lane is Lane.BULK else RUN_QUARANTINE
    for _ in range(-(-turns // TURNS_PER_HINT[lane])):
        yield lane, task, str(uuid.uuid4()), []
