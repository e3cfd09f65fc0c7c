"""Turnmill's own Celery app: `celery -A turnmill_worker.app worker`, `beat` and `flower` work."""

import logging
import os
from typing import Any

from celery import Celery, signals
from celery.worker.control import Panel

from turnmill.domain.errors import TurnmillError
from turnmill.settings import Settings
from turnmill_worker.celery.config import config, refuse_another_broker
from turnmill_worker.celery.installing import install
from turnmill_worker.celery.logs import guard
from turnmill_worker.celery.remote import restrict
from turnmill_worker.flower.guarding import guard_flower

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


@signals.celeryd_init.connect
def obey_few(**_: Any) -> None:
    """Leave on what Settings say of Celery's remote commands."""
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


@signals.after_setup_logger.connect
def keep_hints_out_of_the_log(loglevel: int = logging.INFO, **_: Any) -> None:
    """Log no line for each hint unless asked to: the rows tell more, and it would cost the most."""
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING if loglevel > logging.DEBUG else loglevel)
