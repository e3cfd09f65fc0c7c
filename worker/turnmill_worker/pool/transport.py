"""Kombu's Redis transport, for hints: many at once, and without acknowledging what was not kept.

A worker that is behind pops hints by the handful; kombu makes a round trip for each. A queue that
is consumed with `no_ack` keeps nothing to acknowledge, but kombu's Redis channel still makes a
round trip to remove what is not there. What is no message ends kombu's connection; here it is
dropped. Everything else works as in `kombu.transport.redis`.
"""

import logging
from collections.abc import Callable, Container, Sequence
from queue import Empty
from time import monotonic
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads
from redis.exceptions import NoPermissionError, ResponseError

logger = logging.getLogger("turnmill.transport")

#: Messages popped at once: enough that the round trip does not matter, few enough that the main
#: thread looks at everything else in between, and that other workers get their share.
_HANDFUL = 32
#: Of bytes that are no JSON, or nested without end.
_UNREADABLE = (ValueError, RecursionError)
#: Of JSON that is no message: another type somewhere, a part that is missing.
_NO_MESSAGE = (*_UNREADABLE, AttributeError, LookupError, TypeError)


class QoS(redis.QoS):
    """Knows which messages are kept."""

    def ack(self, delivery_tag: Any) -> None:
        """Remove the message from what is kept, if it is."""
        if delivery_tag in self._delivered:
            super().ack(delivery_tag)

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        """Put what was kept back into its queue; let go of it where it is no message."""
        try:
            super().restore_by_tag(tag, client, leftmost)
        except _NO_MESSAGE:
            _drop_litter()
            self._remove_from_indices(tag).execute()


class Channel(redis.Channel):
    """A Redis channel that pops as many messages at once as there is room for."""

    QoS = QoS

    _room: Callable[[], int] = staticmethod(lambda: 1)
    _knows_blmpop = True  # until the server says otherwise: before Redis 7, or by its ACL
    _pops_many = False
    _in_poll: Any
    _brpop_sent_at: Any

    def _brpop_start(self, timeout: float | None = None) -> None:
        count = min(self._room(), _HANDFUL)
        queues = self._queue_cycle.consume(len(self.active_queues))
        self._pops_many = bool(
            count > 1 and queues and self._knows_blmpop and not self.global_keyprefix
        )
        if not self._pops_many:
            super()._brpop_start(timeout)
            return
        keys = [self._q_for_pri(queue, step) for step in self.priority_steps for queue in queues]
        wait = self.brpop_timeout if timeout is None else timeout
        self._in_poll = self.client.connection
        self._brpop_sent_at = monotonic()
        self.client.connection.send_command(
            "BLMPOP", wait or 0, len(keys), *keys, "RIGHT", "COUNT", count
        )

    def _brpop_read(self, **options: Any) -> Any:
        if not self._pops_many:
            try:
                return super()._brpop_read(**options)
            except _UNREADABLE:
                _drop_litter()
                raise Empty from None
        try:
            popped = self.client.parse_response(self.client.connection, "BLMPOP", **options)
        except self.connection_errors:
            self.client.connection.disconnect()  # so that the next look connects anew
            raise
        except ResponseError as error:
            unknown = isinstance(error, NoPermissionError) or "unknown command" in str(error)
            if not unknown:
                raise
            type(self)._knows_blmpop = False
            raise Empty from None
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        if not popped:
            raise Empty
        key, messages = popped
        self._deliver_all(bytes_to_str(key), messages)
        return True

    def _deliver_all(self, key: str, messages: Sequence[bytes]) -> None:
        queue = key.rsplit(self.sep, 1)[0]
        self._queue_cycle.rotate(queue)
        delivered = 0
        try:
            for message in messages:
                delivered += 1
                try:
                    body = loads(bytes_to_str(message))
                except _UNREADABLE:
                    _drop_litter()
                    continue
                self.connection._deliver(body, queue)
        finally:
            if left := messages[delivered:]:
                with self.conn_or_acquire() as client:
                    client.rpush(key, *reversed(left))

    def _receive_one(self, c: Any) -> Any:
        try:
            return super()._receive_one(c)
        except _UNREADABLE:
            _drop_litter()
            raise Empty from None


def _drop_litter() -> None:
    """Let go of what is no message: nobody could ever read it, and others wait behind it."""
    logger.warning("something in a queue is no message; it is dropped")


class Careful:
    """How a transport lets go of what is no message; before kombu's own in the line of classes."""

    #: Queues whose messages may be packed. A few bytes unpack to gigabytes.
    packed: Container[str] = ()

    def _deliver(self, message: Any, queue: str) -> None:
        try:
            is_packed = "compression" in message["headers"]
            is_named = isinstance(message["properties"]["delivery_tag"], str)
            if is_named and (not is_packed or queue in Careful.packed):
                super()._deliver(message, queue)  # type: ignore[misc]
                return
        except _NO_MESSAGE:
            pass
        _drop_litter()


class Transport(Careful, redis.Transport):
    """Redis, for hints."""

    Channel = Channel


class SentinelChannel(Channel, redis.SentinelChannel):
    """The same, at the primary that Sentinels name."""


class SentinelTransport(Careful, redis.SentinelTransport):
    """Redis behind Sentinels, for hints."""

    Channel = SentinelChannel


def take_at_once(room: Callable[[], int]) -> None:
    """Let the channels of this process pop as many messages at once as `room` says, up to a bound.

    Asked before each look. Without it they pop one at a time, as kombu does.
    """
    Channel._room = staticmethod(room)


def use_hint_transport(*, packed: Container[str] = ()) -> None:
    """Let this process reach every Redis through our transports, under kombu's own names.

    For workers, before they connect; whoever looks at a connection's URL sees what it was given.
    Messages of the queues in `packed` may be compressed.
    """
    Careful.packed = packed
    for name in ("redis", "rediss"):
        TRANSPORT_ALIASES[name] = f"{__name__}:Transport"
    TRANSPORT_ALIASES["sentinel"] = f"{__name__}:SentinelTransport"
