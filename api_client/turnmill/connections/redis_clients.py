"""A client of a Redis, with short patience: every call has an end, and nothing is tried twice."""

from typing import TYPE_CHECKING, Any

from turnmill.connections.brokers import Broker, Kind

if TYPE_CHECKING:
    from redis import Redis


def redis_client(broker: Broker, *, seconds: float) -> "Redis":
    """Return a client, which connects when it is first used; `seconds` bound every step of it."""
    from redis import Redis  # noqa: PLC0415  a send needs none of it
    from redis.sentinel import Sentinel  # noqa: PLC0415

    once = once_only(seconds)
    if broker.kind is Kind.REDIS:
        return Redis(**broker.for_redis(), **once)
    sentinels: Any = Sentinel(  # type: ignore[no-untyped-call]
        [(place.host, place.port) for place in broker.places],
        sentinel_kwargs={**broker.for_sentinels(), **once},
        **broker.for_redis(),
        **once,
    )
    client: Redis = sentinels.master_for(broker.master_name)
    return client


def once_only(seconds: float) -> dict[str, Any]:
    """Return redis-py's options for that."""
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    return {
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        "retry": Retry(NoBackoff(), 0),
    }
