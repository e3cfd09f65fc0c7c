"""How Celery is set up: a carrier of hints, which keeps nothing and decides nothing."""

from collections.abc import Mapping
from typing import Any

from celery import Celery
from kombu.entity import Exchange, Queue

from turnmill.connections.broker_urls import read_broker_url
from turnmill.connections.brokers import Broker, QueueType
from turnmill.domain.errors import UnsafeSetting
from turnmill.settings import Profile, Settings
from turnmill.wire import DEFAULT_QUEUE, LANE_QUEUES, UPKEEP_QUEUE

#: Where no URL is set: the app can be imported, and a worker refuses to start.
NO_BROKER = "memory://"
_REDIS_OPTIONS: Mapping[str, Any] = {
    # An attempt to connect takes a second at the most, and the next one comes a second later.
    "socket_timeout": 1.0,
    "socket_connect_timeout": 1.0,
    "socket_keepalive": True,
    # A connection that nobody answers on is given up after three to five seconds. An idle one is
    # answered every second, and never asked.
    "health_check_interval": 2,
    "retry_on_timeout": False,
    "priority_steps": [0],
    # Messages are acknowledged before they run, so none of them comes back.
    "visibility_timeout": 3600,
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
}


def hint_queues(broker: Broker) -> list[Queue]:
    """Return the queues of hints, and that of upkeep. In Redis hints are popped and forgotten.

    Keeping a message until it is acknowledged costs two of the three round trips that it makes;
    a hint may be lost. RabbitMQ would push everything at once to a consumer that never
    acknowledges, so there it does.
    """
    arguments = _arguments(broker)
    # Bound to nothing of the app's: Celery would give them its default exchange and routing key.
    exchange = Exchange("turnmill", type="direct")
    hints = [
        Queue(name, exchange, name, no_ack=broker.is_redis_like, queue_arguments=arguments)
        for name in LANE_QUEUES.values()
    ]
    return [*hints, Queue(UPKEEP_QUEUE, exchange, UPKEEP_QUEUE, queue_arguments=arguments)]


def _arguments(broker: Broker) -> dict[str, str] | None:
    return {"x-queue-type": "quorum"} if broker.queue_type is QueueType.QUORUM else None


def _broker(broker: Broker) -> dict[str, Any]:
    said = broker.for_kombu(_REDIS_OPTIONS if broker.is_redis_like else {})
    return {
        "broker_url": said.url,
        "broker_use_ssl": said.ssl,
        "broker_transport_options": said.options,
    }


def config(settings: Settings) -> dict[str, Any]:
    """Return Celery's configuration for these settings."""
    broker = read_broker_url(settings.broker_url or NO_BROKER)
    return {
        **_broker(broker),
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": 1.0,
        # Flower asks in eight threads, each with two connections at once: with less than nine they
        # wait for each other for ever, and Flower neither shows anything nor ends.
        "broker_pool_limit": 16,
        "result_backend": None,
        "task_ignore_result": True,
        "task_acks_late": False,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_queues": [Queue(DEFAULT_QUEUE, queue_arguments=_arguments(broker))],
        "task_default_queue": DEFAULT_QUEUE,
        "task_create_missing_queues": False,
        "task_store_errors_even_if_ignored": False,
        "worker_consumer": "turnmill_worker.celery.consumer:SteadyConsumer",
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": True,
        "worker_redirect_stdouts": False,
        "worker_log_format": "[%(asctime)s %(levelname)s %(name)s] %(message)s",
        # A line for each message would be the most expensive thing that a turn does.
        "worker_task_log_format": "[%(asctime)s %(levelname)s %(name)s] %(message)s",
        "event_queue_ttl": 60.0,
        "event_queue_expires": 60.0,
        "control_queue_ttl": 60.0,
        "timezone": "UTC",
        "enable_utc": True,
    }


def refuse_another_broker(app: Celery, settings: Settings) -> None:
    """Raise UnsafeSetting when production would dial a broker that nobody has judged.

    Celery obeys variables and options of its own more than what an app is set up with.
    """
    if settings.profile is not Profile.PRODUCTION:
        return
    ours = {read_broker_url(settings.broker_url or NO_BROKER).for_kombu().url}
    if {app.conf.broker_read_url, app.conf.broker_write_url} != ours:
        raise UnsafeSetting(
            "Celery would dial another broker than that of TURNMILL_BROKER_URL",
            hint="unset CELERY_BROKER_URL, CELERY_BROKER_READ_URL and CELERY_BROKER_WRITE_URL,"
            " and leave --broker out",
        )
