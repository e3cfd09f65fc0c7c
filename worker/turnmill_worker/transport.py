"""Kombu's Redis transport, which takes hints at their word: what was not kept is not acknowledged.

A queue that is consumed with `no_ack` keeps nothing to acknowledge, but kombu's Redis channel still
makes a round trip to remove what is not there: half of what a worker's main thread does. Everything
else, and every queue that does keep its messages, works as in `kombu.transport.redis`.
"""

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis


class QoS(redis.QoS):
    """Knows which messages are kept."""

    def ack(self, delivery_tag: Any) -> None:
        """Remove the message from what is kept, if it is."""
        if delivery_tag in self._delivered:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]


class Channel(redis.Channel):
    """A Redis channel with our quality of service."""

    QoS = QoS


class Transport(redis.Transport):
    """Redis, for hints."""

    Channel = Channel


def use_hint_transport() -> None:
    """Let this process reach `redis:` and `rediss:` through our transport, under their own names.

    For workers, before they connect; whoever looks at a connection's URL sees what it was given.
    """
    for name in ("redis", "rediss"):
        TRANSPORT_ALIASES[name] = f"{__name__}:Transport"
