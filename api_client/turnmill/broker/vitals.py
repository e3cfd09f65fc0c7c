"""What a broker says about itself: whether it answers, and whether it keeps what it was given."""

from dataclasses import dataclass

from turnmill.domain.errors import UnsafeSetting
from turnmill.settings import Profile, Settings

_TIMEOUT_SECONDS = 2.0
_KEEPS_ALL = "noeviction"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerVitals:
    """A broker of Redis' kind, as it describes itself."""

    product: str  #: with its version
    eviction: str  #: its maxmemory-policy; empty where it does not tell

    @property
    def evicts(self) -> bool:
        """Tell whether it may throw messages away when its memory is full."""
        return self.eviction not in ("", _KEEPS_ALL)


class BrokerSilent(Exception):
    """The broker cannot be asked; the text names the kind of error only."""


def is_redis(url: str) -> bool:
    """Tell whether the broker can be asked directly."""
    return url.startswith(("redis://", "rediss://"))


def ask_broker(url: str) -> BrokerVitals:
    """Ask a broker of Redis' kind; raises BrokerSilent."""
    import redis  # noqa: PLC0415  a send needs none of it
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    try:
        with redis.Redis.from_url(
            url,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            # Not CONFIG GET: services that somebody else runs often forbid it.
            info = client.info()
    except (redis.RedisError, ValueError) as error:
        raise BrokerSilent(type(error).__name__) from None
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version") or info.get("redis_version", "")
    return BrokerVitals(product=f"{name} {version}", eviction=info.get("maxmemory_policy", ""))


def refuse_eviction(settings: Settings) -> None:
    """Raise UnsafeSetting when production is to run on a broker that evicts.

    One that does not answer is not refused: workers wait for their broker.
    """
    if settings.profile is not Profile.PRODUCTION or not is_redis(settings.broker_url):
        return
    try:
        vitals = ask_broker(settings.broker_url)
    except BrokerSilent:
        return
    if vitals.evicts:
        raise UnsafeSetting(
            f"the broker of TURNMILL_BROKER_URL evicts ({vitals.eviction})",
            hint=f"set its maxmemory-policy to {_KEEPS_ALL}, or TURNMILL_PROFILE=development",
        )
