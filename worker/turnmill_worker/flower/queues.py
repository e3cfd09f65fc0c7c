"""The broker as Flower's pages ask it: by our reading of its URL."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from turnmill.connections.broker_urls import read_broker_url
from turnmill.connections.brokers import Broker, Kind

if TYPE_CHECKING:
    from flower.utils.broker import BrokerBase


def show_the_right_queues(broker_url: str) -> None:
    """Have Flower's pages ask the broker by our reading of its URL.

    By its own it leaves out the user and the database of a socket, and all Sentinels but one.
    """
    from flower import views  # noqa: PLC0415

    broker = read_broker_url(broker_url)
    if broker.kind is not Kind.MEMORY:
        views.Broker = lambda _, **options: queues_of(broker, **options)


def queues_of(broker: Broker, *, http_api: str | None = None, **options: Any) -> "BrokerBase":
    """Return what counts the messages in queues, for Flower."""
    from flower.utils.broker import RabbitMQ, RedisBase  # noqa: PLC0415

    if broker.kind is Kind.RABBITMQ:
        options["broker_use_ssl"] = broker.tls.for_redis() if broker.tls else None
        return RabbitMQ(broker.for_kombu().url, http_api or _management(broker), **options)
    queues = RedisBase("redis://", **options)
    queues.redis = _asyncio_client(
        broker,
        socket_timeout=queues.socket_timeout,
        socket_connect_timeout=queues.socket_connect_timeout,
    )
    return queues


def _management(broker: Broker) -> str | None:
    """Return where a RabbitMQ with TLS has its API; Flower would send the password in the clear."""
    if broker.tls is None:
        return None
    login = f"{quote(broker.username, safe='')}:{quote(broker.password, safe='')}"
    return f"https://{login}@{broker.places[0].host}:15671/api/"


def _asyncio_client(broker: Broker, **times: float) -> Any:
    from redis.asyncio import Redis  # noqa: PLC0415
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.asyncio.sentinel import Sentinel  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415

    once: dict[str, Any] = {**times, "retry": Retry(NoBackoff(), 0)}
    if broker.kind is Kind.REDIS:
        return Redis(**broker.for_redis(), **once)
    sentinels: Any = Sentinel(  # type: ignore[no-untyped-call]
        [(place.host, place.port) for place in broker.places],
        sentinel_kwargs={**broker.for_sentinels(), **once},
        **broker.for_redis(),
        **once,
    )
    return _closing_all(sentinels.master_for(broker.master_name), sentinels.sentinels)


def _closing_all(client: Any, others: Sequence[Any]) -> Any:
    """Let a client close others with it: a page asks Sentinels anew each time it is looked at."""
    close = client.aclose

    async def aclose() -> None:
        for one in (close, *(other.aclose for other in others)):
            await one()

    client.aclose = aclose
    return client
