"""Turnmill's own Celery app: `celery -A turnmill_worker.app worker`, `beat` and `flower` work."""

import logging
import os
from typing import Any

from celery import Celery, signals

from turnmill.settings import Settings
from turnmill_worker.celery.config import config
from turnmill_worker.celery.flower import guard_flower
from turnmill_worker.celery.installing import install

settings = Settings.from_env()
app = Celery(
    "turnmill",
    task_cls="turnmill_worker.pool:AsyncTask",
    amqp="turnmill_worker.celery.reconnect:PromptAMQP",
    events="turnmill_worker.celery.reconnect:PromptEvents",
    set_as_current=True,
)
app.conf.update(config(settings))
install(app, settings)


@signals.import_modules.connect
def look_at_flower(**_: Any) -> None:
    """Let no Flower be open that should not be."""
    guard_flower(settings, environ=os.environ)


@signals.after_setup_logger.connect
def keep_hints_out_of_the_log(loglevel: int = logging.INFO, **_: Any) -> None:
    """Log no line for each hint unless asked to: the rows tell more, and it would cost the most."""
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING if loglevel > logging.DEBUG else loglevel)
