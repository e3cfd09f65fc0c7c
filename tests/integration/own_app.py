"""An application with a Celery app of its own, in which Turnmill is installed."""

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery, signals
from celery.schedules import crontab

import turnmill_worker
from turnmill import Client

app = Celery("shop", broker=os.environ["SHOP_BROKER"], backend=os.environ["SHOP_BACKEND"])
app.conf.update(
    task_serializer="pickle",
    result_serializer="pickle",
    accept_content=["pickle", "json"],
    task_default_queue="shop",
    task_routes={"shop.mailed": {"queue": "mail"}},
    task_acks_late=True,
    task_time_limit=30,
    task_annotations={"*": {"rate_limit": "600/m"}},
    beat_schedule={"purge": {"task": "shop.add", "schedule": crontab(minute="5"), "args": (1, 1)}},
    timezone="Europe/Berlin",
)
if os.environ.get("SHOP_POOL"):
    app.conf.worker_pool = os.environ["SHOP_POOL"]
if os.environ.get("SHOP_ACCEPTS"):
    app.conf.accept_content = [os.environ["SHOP_ACCEPTS"]]


@app.task(name="shop.add")
def add(one: int, other: int) -> int:
    return one + other


@app.task(name="shop.ask")
def ask(text: str) -> str:
    """Send a message from within a task, and wait for its reply."""
    with Client.from_env() as client:
        turn = client.send(client.sessions.create(user_id="ada"), text)
        return str(turn.result(timeout=30).text)


@app.task(name="shop.mailed")
def mailed(what: set[str]) -> set[str]:
    return what | {"mailed"}


@app.task(name="shop.flaky", bind=True, max_retries=2)
def flaky(self: Any) -> int:
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)
    return int(self.request.retries)


@app.task(name="shop.broken")
def broken() -> None:
    raise LookupError("no such customer")


@app.task(name=os.environ.get("SHOP_NAME", "shop.slow"))
def slow() -> None:
    time.sleep(60)


@signals.task_success.connect
def note(sender: Any, **_: Any) -> None:
    with Path(os.environ["SHOP_NOTES"]).open("a") as file:
        file.write(f"{sender.name}\n")


turnmill_worker.install(app)
