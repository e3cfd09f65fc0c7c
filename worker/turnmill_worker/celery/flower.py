"""What is done about Flower before it listens, by whatever way it was started and set up."""

import logging
import sys
from collections.abc import Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from turnmill.connections import rules
from turnmill.connections.broker_urls import read_broker_url
from turnmill.connections.brokers import Broker, Kind
from turnmill.domain.errors import UnsafeSetting
from turnmill.settings import Profile, Settings
from turnmill_worker.celery.logs import guard

if TYPE_CHECKING:
    from flower.utils.broker import BrokerBase

_OURS = "TURNMILL_FLOWER_AUTH"


def guard_flower(settings: Settings, *, environ: Mapping[str, str]) -> None:
    """Have Flower look at what it is about to show to whom, if this process has loaded Flower.

    Called when Celery loads an app's modules, as every Flower has it do before it listens: a
    command line, FLOWER_* variables, a flowerconfig.py and a program of somebody's own are known
    by then, by what they came to.
    """
    loaded = sys.modules.get("flower.app")
    if loaded is None or getattr(loaded.Flower.start_http_server, "is_guarded", False):
        return
    listen = loaded.Flower.start_http_server

    @wraps(listen)
    def guarded(flower: Any) -> Any:
        _set_up(flower.options, settings, login=environ.get(_OURS))
        _wake(flower)
        guard(logging.getLogger())  # of names in events, which anybody may have sent
        return listen(flower)

    guarded.is_guarded = True  # type: ignore[attr-defined]
    loaded.Flower.start_http_server = guarded


def _set_up(options: Any, settings: Settings, *, login: str | None) -> None:
    if login:
        # Not FLOWER_BASIC_AUTH: Flower takes what follows a comma for another login.
        options.basic_auth = [login]
    if settings.profile is Profile.PRODUCTION:
        try:
            _refuse_unsafe(options)
        except UnsafeSetting as error:
            raise SystemExit(f"turnmill: {error}\n  hint: {error.hint}") from None
    _close_metrics()
    _show_the_right_queues(settings.broker_url)


def _wake(flower: Any) -> None:
    from turnmill_worker.celery.attentive import listen_at_once  # noqa: PLC0415  Flower's, too

    listen_at_once(flower)


def _refuse_unsafe(options: Any) -> None:
    if not options.basic_auth and not options.auth:
        raise UnsafeSetting("Flower would be open to everybody", hint=f"set {_OURS}=user:password")
    if any(map(_is_guessed, options.basic_auth or ())):
        raise UnsafeSetting(
            "Flower's login is one that everybody tries first", hint=f"set {_OURS}=user:password"
        )
    if options.broker_api:
        rules.refuse_unsafe(rules.of_http("--broker-api", options.broker_api))


def _is_guessed(login: str) -> bool:
    user, _, password = login.partition(":")
    return not password or rules.is_guessed(user, password)


def _close_metrics() -> None:
    """Ask for the login before /metrics too, which Flower by itself shows to everybody."""
    from flower.views.monitor import Metrics  # noqa: PLC0415  only its own process needs it
    from tornado.web import authenticated  # noqa: PLC0415

    Metrics.get = authenticated(Metrics.get)


def _show_the_right_queues(broker_url: str) -> None:
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
