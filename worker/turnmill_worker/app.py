"""The Celery app: `celery -A turnmill_worker.app worker`, `beat` and `flower` work as they do."""

import logging
import os
from datetime import timedelta
from typing import Any

from celery import Celery, bootsteps, signals
from celery.worker.control import Panel

from turnmill.broker.vitals import refuse_eviction
from turnmill.connections.broker_urls import read_broker_url
from turnmill.domain.errors import TurnmillError
from turnmill.settings import Settings
from turnmill.variables import slips
from turnmill.wire import DEFAULT_QUEUE
from turnmill_worker.celery import about, readiness
from turnmill_worker.celery.config import config, refuse_another_broker
from turnmill_worker.celery.flower import guard_flower
from turnmill_worker.celery.hearing import hints_of
from turnmill_worker.celery.logs import guard
from turnmill_worker.celery.remote import restrict
from turnmill_worker.celery.schedule import beat_schedule
from turnmill_worker.celery.tasks import turns, upkeep
from turnmill_worker.layers import registered as layers
from turnmill_worker.observers import registered as observers
from turnmill_worker.pool.transport import use_hint_transport
from turnmill_worker.process.host import Host, check_store

logger = logging.getLogger("turnmill.app")

#: A worker runs turns before it is connected to its broker, and counts as ready when that takes
#: longer than this.
_CONNECTED_WITHIN = timedelta(seconds=3)

settings = Settings.from_env()
app = Celery(
    "turnmill",
    task_cls="turnmill_worker.pool:AsyncTask",
    amqp="turnmill_worker.celery.reconnect:PromptAMQP",
    events="turnmill_worker.celery.reconnect:PromptEvents",
    set_as_current=True,
)
app.conf.update(config(settings), beat_schedule=beat_schedule(os.environ))

#: What this process runs turns with; made when a worker starts, not at import.
process = Host(settings)

turns.register(app, process.runtime)
upkeep.register(app, process)
about.register()


class TurnsStep(bootsteps.StartStopStep):
    """Starts what runs turns after the pool, and ends it before: the last verdict gets written.

    A step of the worker, not of the consumer: dispatcher and heartbeats outlive the broker.
    """

    requires = ("celery.worker.components:Pool",)
    label = "Turns"

    def start(self, worker: Any) -> None:
        """Check the store and start; a set-up that cannot work ends the worker with one line."""
        process.start(worker.pool, hints_of(worker), most=worker.max_concurrency)
        readiness.tell_within(_CONNECTED_WITHIN)

    def stop(self, worker: Any) -> None:
        """Let calls finish for the grace period, then give back or reconcile the rest."""
        process.stop()

    def terminate(self, worker: Any) -> None:
        """Close all calls at once."""
        process.stop(at_once=True)


app.steps["worker"].add(TurnsStep)


@signals.celeryd_init.connect
def refuse_bad_setup(**_: Any) -> None:
    """End with one clear line before anything has been started."""
    try:
        read_broker_url(settings.broker_url)
        refuse_eviction(settings)
        check_store(settings)
        layers.registered(settings.layers)
        observers.registered(settings.observers)
    except TurnmillError as error:
        raise SystemExit(f"turnmill: {error}\n  hint: {error.hint}") from None
    use_hint_transport(packed={DEFAULT_QUEUE})
    restrict(Panel.data, settings.remote_control)


@signals.after_setup_task_logger.connect
@signals.after_setup_logger.connect
def keep_lines_apart(logger: logging.Logger, **_: Any) -> None:
    """Let nobody's text look like a line of ours."""
    guard(logger)


@signals.import_modules.connect
def refuse_what_is_unsafe(sender: Any, **_: Any) -> None:
    """Look at what Celery's programs have come to, before any of them connects or listens."""
    guard_flower(settings, environ=os.environ)
    try:
        refuse_another_broker(sender, settings)
    except TurnmillError as error:
        raise SystemExit(f"turnmill: {error}\n  hint: {error.hint}") from None


@signals.worker_shutting_down.connect
def stop_taking_turns(**_: Any) -> None:
    """Neither claim nor announce from now on."""
    process.drain()


@signals.after_setup_logger.connect
def name_slips(**_: Any) -> None:
    """Say which variables were set in vain: a worker or beat does not do then what was meant."""
    for line in slips(os.environ):
        logger.warning(line)


@signals.after_setup_logger.connect
def keep_hints_out_of_the_log(loglevel: int = logging.INFO, **_: Any) -> None:
    """Log no line for each hint unless asked to: the rows tell more, and it would cost the most."""
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING if loglevel > logging.DEBUG else loglevel)


signals.worker_ready.connect(readiness.tell)
signals.beat_init.connect(readiness.tell)
