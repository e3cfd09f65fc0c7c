"""Every program that dials a broker, one after the other, by one URL."""

import asyncio
from collections.abc import Callable

import redis
from celery import Celery

from turnmill.broker.publisher import Publisher
from turnmill.broker.vitals import BrokerSilent, ask_broker
from turnmill.connections.broker_urls import read_broker_url
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import Lane
from turnmill.new_ids import new_id
from turnmill.settings import Settings
from turnmill.store.records import Head
from turnmill.wire import LANE_QUEUES
from turnmill_worker.celery.config import config, hint_queues
from turnmill_worker.flower.queues import queues_of

QUEUE = LANE_QUEUES[Lane.INTERACTIVE]


def what_fails(url: str) -> list[str]:
    """Return which programs do not find each other's hints at this URL."""
    programs = {
        "doctor": doctor_finds,
        "client": client_sends,
        "flower": flower_counts,
        "worker": worker_gets,
    }
    return [name for name, works in programs.items() if not tried(works, url)]


def tried(works: Callable[[str], bool], url: str) -> bool:
    try:
        return works(url)
    except (BrokerSilent, redis.RedisError):
        return False


def doctor_finds(url: str) -> bool:
    return ask_broker(read_broker_url(url)).product.startswith(("Redis", "Valkey"))


def client_sends(url: str) -> bool:
    publisher = Publisher(url, hints_max=10)
    try:
        sent = publisher.announce([a_head()])
        return sent == 1 and publisher.depth(Lane.INTERACTIVE) == 1
    finally:
        publisher.close()


def a_head() -> Head:
    return Head(turn_id=TurnId(new_id()), session_id=SessionId(new_id()), lane=Lane.INTERACTIVE)


def celery_at(url: str) -> Celery:
    app = Celery(
        "reaching", amqp="turnmill_worker.celery.reconnect:PromptAMQP", set_as_current=False
    )
    app.conf.update(config(Settings(broker_url=url)))
    for queue in hint_queues(read_broker_url(url)):
        app.amqp.queues.select_add(queue)
    return app


def flower_counts(url: str) -> bool:
    queues = queues_of(
        read_broker_url(url), broker_options=celery_at(url).conf.broker_transport_options
    )
    (queue,) = asyncio.run(queues.queues([QUEUE]))
    return bool(queue["messages"] == 1)


def worker_gets(url: str) -> bool:
    app = celery_at(url)
    with app.connection_for_read() as connection:
        return connection.channel().basic_get(QUEUE, no_ack=True) is not None
