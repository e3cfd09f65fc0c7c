"""Checks of the broker: whether it answers, takes hints, and keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnmill.cli.doctor.findings import Examination, Finding, Findings, note, ok, wrong
from turnmill.connections.shown import shown

if TYPE_CHECKING:
    from turnmill.connections.broker_causes import Cause
    from turnmill.connections.brokers import Broker

_NEARLY_FULL = 0.9


def check_broker(examination: Examination) -> Findings:
    """Whether it answers, would take a hint, and keeps what it was given."""
    from turnmill.connections.broker_urls import read_broker_url

    url = examination.settings.broker_url
    if not url:
        yield from _without_broker(examination)
        return
    examination.broker_silent = True  # until it has answered: this check may be left behind
    broker = read_broker_url(url)
    look = _redis if broker.is_redis_like else _other
    yield from look(examination, broker, shown(url))


def check_streams(examination: Examination) -> Findings:
    """Whether the Redis that carries streams answers, where it is another one than the broker."""
    from turnmill.broker.vitals import BrokerSilent, ask_broker
    from turnmill.connections.broker_urls import read_stream_url
    from turnmill.settings import NO_STREAMS

    url = examination.settings.stream_url
    if not url:
        return
    if url == NO_STREAMS:
        yield ok("off: replies are told of when they are whole")
        return
    place = shown(url)
    try:
        vitals = ask_broker(read_stream_url(url))
    except BrokerSilent as error:
        remedy = error.cause.remedy.replace("TURNMILL_BROKER_URL", "TURNMILL_STREAM_URL")
        yield wrong(f"{place}: {error.cause}", remedy, code=error.cause.code)
        return
    yield ok(f"{vitals.product} at {place}")
    if vitals.fullness > _NEARLY_FULL and not vitals.evicts:
        percent = f"{100 * vitals.fullness:.0f} %"
        yield note(f"{percent} of its memory are taken", "raise its maxmemory", code="no_memory")


def _redis(examination: Examination, broker: Broker, place: str) -> Findings:
    from turnmill.broker.vitals import BrokerSilent, ask_broker, try_a_hint

    try:
        vitals = ask_broker(broker)
    except BrokerSilent as error:
        yield _silent(place, error.cause)
        return
    examination.broker_silent = False
    yield ok(f"{vitals.product} at {place}")
    if vitals.evicts:
        yield _evicting(examination, vitals.eviction)
    try:
        try_a_hint(broker)
    except BrokerSilent as error:
        yield wrong(f"it takes no hints: {error.cause}", error.cause.remedy, code=error.cause.code)
        return
    if vitals.fullness > _NEARLY_FULL and not vitals.evicts:
        percent = f"{100 * vitals.fullness:.0f} %"
        yield note(f"{percent} of its memory are taken", "raise its maxmemory", code="no_memory")


def _other(examination: Examination, broker: Broker, place: str) -> Findings:
    from turnmill.broker.publisher import connect
    from turnmill.connections.broker_causes import cause_of

    try:
        with connect(broker) as connection:
            connection.connect()
    except Exception as error:  # noqa: BLE001
        # The edge to somebody else's client: whatever it raises is what is to be told.
        yield _silent(place, cause_of(error))
    else:
        examination.broker_silent = False
        yield ok(f"RabbitMQ at {place}" if broker.places else "in the memory of one process")


def _silent(place: str, cause: Cause) -> Finding:
    return wrong(f"{place}: {cause}", cause.remedy, code=cause.code)


def _without_broker(examination: Examination) -> Findings:
    from turnmill.store.capabilities import Capability, capabilities_at

    if Capability.SHARED not in capabilities_at(examination.settings.database_url):
        yield ok("none, and SQLite needs none")
    else:
        yield wrong("TURNMILL_BROKER_URL is not set", "set it, or: turnmill up", code="unset")


def _evicting(examination: Examination, policy: str) -> Finding:
    from turnmill.settings import Profile

    fix = "CONFIG SET maxmemory-policy noeviction"
    what = f"it evicts ({policy}): hints vanish"
    if examination.settings.profile is Profile.PRODUCTION:
        return wrong(f"{what}; workers refuse it", fix, code="evicts")
    return note(f"{what}; production refuses it", fix, code="evicts")
