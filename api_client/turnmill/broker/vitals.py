"""What a broker says about itself: whether it answers, and whether it keeps what it was given."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from turnmill.connections.broker_causes import NO_PRIMARY, Cause, cause_of
from turnmill.connections.broker_urls import read_broker_url
from turnmill.connections.brokers import Broker
from turnmill.connections.redis_clients import once_only, redis_client
from turnmill.domain.errors import UnsafeSetting
from turnmill.domain.states import Lane
from turnmill.settings import Profile, Settings
from turnmill.wire import LANE_QUEUES

_TIMEOUT_SECONDS = 2.0
_KEEPS_ALL = "noeviction"
_QUEUE = LANE_QUEUES[Lane.INTERACTIVE]


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerVitals:
    """A broker of Redis' kind, as it describes itself."""

    product: str  #: with its version
    eviction: str  #: its maxmemory-policy; empty where it does not tell
    fullness: float = 0.0  #: of the memory that it may use; 0 where it may use all

    @property
    def evicts(self) -> bool:
        """Tell whether it may throw messages away when its memory is full."""
        return self.eviction not in ("", _KEEPS_ALL)


class BrokerSilent(Exception):
    """The broker cannot be asked."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.what)
        self.cause = cause


def ask_broker(broker: Broker) -> BrokerVitals:
    """Ask a broker of Redis' kind; raises BrokerSilent."""
    import redis  # noqa: PLC0415  a send needs none of it

    try:
        with redis_client(broker, seconds=_TIMEOUT_SECONDS) as client:
            # Not CONFIG GET: services that somebody else runs often forbid it.
            info = client.info()
    except (redis.RedisError, OSError, ValueError) as error:
        cause = cause_of(error)
    else:
        return _vitals(info)
    if cause.code == NO_PRIMARY:
        cause = _why_no_sentinel(broker) or cause
    raise BrokerSilent(cause)


def try_a_hint(broker: Broker) -> None:
    """Let a broker of Redis' kind judge a hint without taking it; raises BrokerSilent.

    In a transaction a command is checked when it is named: ACL, replica, disk and memory. This one
    is never executed: the connection ends before the transaction does.
    """
    import redis  # noqa: PLC0415

    try:
        with redis_client(broker, seconds=_TIMEOUT_SECONDS) as client:
            connection = client.connection_pool.get_connection()
            try:
                for command in (("LLEN", _QUEUE), ("MULTI",), ("LPUSH", _QUEUE, "")):
                    connection.send_command(*command)
                    connection.read_response()
            finally:
                connection.disconnect()
    except (redis.RedisError, OSError, ValueError) as error:
        raise BrokerSilent(cause_of(error)) from None


def _vitals(info: Mapping[str, Any]) -> BrokerVitals:
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version") or info.get("redis_version", "")
    most = info.get("maxmemory") or 0
    return BrokerVitals(
        product=f"{name} {version}",
        eviction=info.get("maxmemory_policy", ""),
        fullness=info.get("used_memory", 0) / most if most else 0.0,
    )


def _why_no_sentinel(broker: Broker) -> Cause | None:
    """Return why the first Sentinel cannot be asked, or None when it can.

    redis-py names the class of that error only, where it tells that no primary was found.
    """
    import redis  # noqa: PLC0415

    first = broker.places[0]
    try:
        with redis.Redis(
            host=first.host,
            port=first.port,
            **broker.for_sentinels(),
            **once_only(_TIMEOUT_SECONDS),
        ) as sentinel:
            sentinel.ping()
    except (redis.RedisError, OSError) as error:
        cause = cause_of(error)
        return replace(cause, what=f"its Sentinel at {first}: {cause.what}")
    return None


def refuse_eviction(settings: Settings) -> None:
    """Raise UnsafeSetting when production is to run on a broker that evicts.

    One that does not answer is not refused: workers wait for their broker.
    """
    if settings.profile is not Profile.PRODUCTION:
        return
    broker = read_broker_url(settings.broker_url)
    if not broker.is_redis_like:
        return
    try:
        vitals = ask_broker(broker)
    except BrokerSilent:
        return
    if vitals.evicts:
        raise UnsafeSetting(
            f"the broker of TURNMILL_BROKER_URL evicts ({vitals.eviction})",
            hint=f"set its maxmemory-policy to {_KEEPS_ALL}, or TURNMILL_PROFILE=development",
        )
