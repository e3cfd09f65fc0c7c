"""Putting Turnmill into a Celery app: its tasks, its queues, its schedule, its step of a worker."""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Mapping
from typing import Any

from celery import Celery, bootsteps, signals
from celery.app.utils import _new_key_to_old

from turnmill import wire
from turnmill.alive import State
from turnmill.broker.vitals import refuse_eviction
from turnmill.connections.broker_urls import read_broker_url
from turnmill.connections.brokers import Broker
from turnmill.domain.errors import InvalidSetting, TurnmillError
from turnmill.settings import Settings
from turnmill.variables import slips
from turnmill_worker.celery import about, readiness
from turnmill_worker.celery.config import NO_BROKER, hint_queues
from turnmill_worker.celery.hearing import hints_of
from turnmill_worker.celery.pools import POOL, refuse_pool
from turnmill_worker.celery.schedule import beat_schedule
from turnmill_worker.celery.stacks import show_places_alone
from turnmill_worker.celery.tasks import turns, upkeep
from turnmill_worker.layers import registered as layers
from turnmill_worker.layers.defaults import defaults_in
from turnmill_worker.observers import registered as observers
from turnmill_worker.pool.transport import use_hint_transport
from turnmill_worker.process.alive import noting_of_worker
from turnmill_worker.process.host import Host, check_store
from turnmill_worker.process.runtime import CONNECTED_WITHIN
from turnmill_worker.providers.own_prices import Prices, prices_in
from turnmill_worker.tools.known import tools_of

logger = logging.getLogger("turnmill.app")

_TASKS = (
    *(wire.RUN_TURN, wire.RUN_BULK, wire.RUN_QUARANTINE),
    *(wire.ARCHIVE_IDLE, wire.ROLL_UP_USAGE, wire.SELF_CHECK, wire.PURGE),
    *(wire.LOOK_FOR_ALERTS, wire.MAKE_REPORT),
    wire.FIND_TOPICS,
    wire.POLL_BATCHES,
    wire.TEND_TRIALS,
)
_OURS = "turnmill_worker.celery.tasks."
_ATTRIBUTE = "_turnmill"
#: A limit that nothing reaches: a turn has one of its own.
_NEVER = 10.0**9


def install(app: Celery, settings: Settings | None = None) -> None:
    """Let the workers of this app run turns, and its beat keep house, beside its own tasks.

    Nothing of the app's is changed that it has set itself. Raises InvalidSetting for variables that
    cannot be understood, and where it has been called for this app before.
    """
    if hasattr(app, _ATTRIBUTE):
        raise InvalidSetting("Turnmill is installed in this app already", hint="call install once")
    process = Host(settings or Settings.from_env())
    setattr(app, _ATTRIBUTE, process)
    turns.register(app, process.runtime)
    upkeep.register(app, process)
    about.register()
    # An app may have a "purge" of its own.
    schedule = {f"turnmill.{name}": line for name, line in beat_schedule(os.environ).items()}

    def configure(source: Any, **_: Any) -> None:
        _add_defaults(source, process.settings)
        # Not `update`: a schedule of the app's may be shared with others.
        source.beat_schedule = schedule | dict(source.beat_schedule or {})

    app.on_after_configure.connect(configure, weak=False)
    if app.configured:
        configure(app.conf)
    app.steps["worker"].add(_step(process))
    _connect(app, process)


def _add_defaults(conf: Any, settings: Settings) -> None:
    """Set what turns need, where the app has set nothing: below its settings, above Celery's."""
    wanted = {
        "worker_pool": POOL,
        "worker_concurrency": settings.concurrency,
        # A message that waits in a worker with a thousand slots is one that no other can take.
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": (conf.broker_url or "").startswith(("redis", "sentinel")),
        "beat_scheduler": "turnmill_worker.celery.beat:TellingScheduler",
    }
    known = conf.maps[-1]  # by their old names where the app uses those
    named = {key if key in known else _new_key_to_old(key): it for key, it in wanted.items()}
    conf.maps.insert(len(conf.maps) - 1, named)


def _connect(app: Celery, process: Host) -> None:
    """Receive Celery's signals, of workers and beats of this app."""

    def on_worker(instance: Any, **_: Any) -> None:
        if instance.app is app:
            with contextlib.suppress(TurnmillError):  # the step says so, when there is a log
                _prepare(app, process.settings)

    def on_beat(sender: Any, **_: Any) -> None:
        if sender.app is app:
            _add_queues(app, process.settings)
            readiness.tell()

    def on_ready(sender: Any, **_: Any) -> None:
        if sender.app is app:
            readiness.tell()

    def on_shutdown(**_: Any) -> None:
        process.drain()  # nothing, where no worker of this app runs

    signals.celeryd_init.connect(on_worker, weak=False)
    signals.beat_init.connect(on_beat, weak=False)
    signals.worker_ready.connect(on_ready, weak=False)
    signals.worker_shutting_down.connect(on_shutdown, weak=False)
    signals.after_setup_logger.connect(name_slips)
    signals.after_setup_logger.connect(keep_hints_out_of_the_log)


def _prepare(app: Celery, settings: Settings) -> None:
    """Know the queues before `-Q` chooses among them, and the transport before it is used."""
    _add_queues(app, settings)
    ours = {queue.name for queue in hint_queues(_broker_of(app, settings))}
    use_hint_transport(packed=set(app.amqp.queues) - ours)


def _broker_of(app: Celery, settings: Settings) -> Broker:
    """Return where hints are published."""
    return read_broker_url(_broker_url(app, settings))


def _broker_url(app: Celery, settings: Settings) -> str:
    """Return the URL that Turnmill is told, or else that of the app; empty where it has none."""
    url = settings.broker_url or app.conf.broker_url or ""
    return "" if url == NO_BROKER else str(url)


def _add_queues(app: Celery, settings: Settings) -> None:
    queues = app.amqp.queues
    for queue in hint_queues(_broker_of(app, settings)):
        if queue.name not in queues:
            queues.select_add(queue)


def _step(process: Host) -> type[bootsteps.StartStopStep]:
    class TurnsStep(bootsteps.StartStopStep):
        """Starts what runs turns after the pool, and ends it before: the last verdict is written.

        A step of the worker, not of the consumer: dispatcher and heartbeats outlive the broker.
        """

        requires = ("celery.worker.components:Pool",)
        label = "Turns"

        def __init__(self, worker: Any, **kwargs: Any) -> None:
            """End with one clear line where it cannot work, before anything has been started."""
            super().__init__(worker, **kwargs)
            try:
                _check(worker, process)
            except TurnmillError as error:
                raise _end_of(worker, error) from None

        def start(self, worker: Any) -> None:
            show_places_alone()
            process.start(worker.pool, hints_of(worker), most=worker.max_concurrency)
            readiness.tell_within(CONNECTED_WITHIN)

        def stop(self, worker: Any) -> None:
            """Let calls finish for the grace period, then give back or reconcile the rest."""
            process.stop()

        def terminate(self, worker: Any) -> None:
            """Close all calls at once."""
            process.stop(at_once=True)

    return TurnsStep


def _check(worker: Any, process: Host) -> None:
    """Raise for what cannot work; nothing runs yet."""
    app = worker.app
    refuse_pool(worker.pool_cls)
    _refuse_other_tasks(app)
    if not {"json", "application/json"} & set(app.conf.accept_content):
        raise InvalidSetting("accept_content is without json", hint="add 'json': hints are JSON")
    settings = process.settings = dataclasses.replace(
        process.settings, broker_url=_broker_url(app, process.settings)
    )
    noting_of_worker(settings).note(State.STARTING)
    refuse_eviction(settings)
    check_store(settings)
    layers.registered(settings.layers)
    observers.registered(settings.observers)
    prices_in(settings.prices, Prices())
    defaults_in(settings.defaults)
    tools_of(settings)
    _prepare(app, settings)
    _warn_of_deafness(app, _broker_of(app, settings))


def _refuse_other_tasks(app: Celery) -> None:
    """Raise InvalidSetting where a name of ours is taken; free ours of limits set for all tasks."""
    for name in _TASKS:
        task = app.tasks[name]
        # Which of two Celery keeps is chance; the other one it has named in a warning.
        doubled = name in getattr(app, "_duplicate_task_names_warned", ())
        if doubled or not type(task).__module__.startswith(_OURS):
            raise InvalidSetting(
                f"another task of this app has the name {name}", hint="give it another name"
            )
        task.rate_limit = None
        task.time_limit = task.soft_time_limit = _NEVER if _has_limit(app.conf) else None


def _has_limit(conf: Any) -> bool:
    return bool(conf.task_time_limit or conf.task_soft_time_limit)


def _warn_of_deafness(app: Celery, broker: Broker) -> None:
    """Say so when hints go elsewhere: turns are found without them, but later and at a price."""
    url = broker.for_kombu().url
    with app.connection_for_read() as read, app.connection_for_read(url) as hints:
        elsewhere = _place(read.info()) != _place(hints.info())
    prefix = (app.conf.broker_transport_options or {}).get("global_keyprefix")
    if elsewhere or prefix:
        logger.warning(
            "clients publish hints at TURNMILL_BROKER_URL, and this app's broker is another one"
            " (or has a global_keyprefix): turns are found by looking for them"
        )


def _place(info: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(info.get(part) for part in ("hostname", "port", "virtual_host"))


def _end_of(worker: Any, error: TurnmillError) -> SystemExit:
    """Return what ends the worker with one line, in its log too where it has a file for that."""
    if getattr(worker, "logfile", None):  # detached, nobody sees what it says at its end
        logger.critical("%s (hint: %s)", error, error.hint)
    return SystemExit(f"turnmill: {error}\n  hint: {error.hint}")


def name_slips(**_: Any) -> None:
    """Say which variables were set in vain: a worker or beat does not do then what was meant."""
    for line in slips(os.environ):
        logger.warning(line)


def keep_hints_out_of_the_log(**_: Any) -> None:
    """Log no line for each hint unless it failed: the rows tell more. Other tasks have theirs."""
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).addFilter(_is_no_hint)


def _is_no_hint(record: logging.LogRecord) -> bool:
    name = record.args.get("name") if isinstance(record.args, Mapping) else None
    return record.levelno > logging.INFO or name not in _TASKS
