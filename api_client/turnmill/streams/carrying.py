"""Which Redis carries streams, if any, and what reads them here."""

from typing import TYPE_CHECKING

from turnmill.settings import NO_STREAMS, Settings
from turnmill.store.capabilities import Capability
from turnmill.store.database import Database
from turnmill.streams.copies import Copies, LocalCopies, NoCopies

if TYPE_CHECKING:
    from turnmill.connections.brokers import Broker


def redis_of_streams(settings: Settings) -> "Broker | None":
    """Return the Redis that carries streams, or None: then they are told of when they are whole.

    Raises InvalidSetting for a URL that cannot be understood.
    """
    if settings.stream_url == NO_STREAMS or not (settings.stream_url or settings.broker_url):
        return None
    # Whoever only imports the client reads no URL.
    from turnmill.connections.broker_urls import read_broker_url, read_stream_url  # noqa: PLC0415

    if settings.stream_url:
        return read_stream_url(settings.stream_url)
    broker = read_broker_url(settings.broker_url)
    return broker if broker.is_redis_like else None


def copies_for(database: Database, settings: Settings) -> Copies:
    """Return what reads streams of the turns in this store."""
    if settings.stream_url == NO_STREAMS:
        return NoCopies()
    if not database.can(Capability.SHARED):
        return LocalCopies(seconds=settings.stream_ttl.total_seconds())
    broker = redis_of_streams(settings)
    if broker is None:
        return NoCopies()
    from turnmill.streams.redis_copies import RedisCopies  # noqa: PLC0415  whoever sends has none

    return RedisCopies(broker, database.keys)
