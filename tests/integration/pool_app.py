"""A Celery app for the tests of the pool: one task for each thing that a pool must do well."""

import asyncio
import os
import threading
import time
from typing import Any

import redis
from celery import Celery, Task, bootsteps, current_task, signals
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from kombu.entity import Queue

from tests.integration.preloaded import Preloaded
from turnmill_worker.pool.async_task import AsyncTask
from turnmill_worker.pool.transport import use_hint_transport

BROKER_VARIABLE = "POOL_TEST_BROKER"
CONF_VARIABLE = "POOL_TEST_CONF"  #: lines of "setting=number"


def make_app(broker_url: str, **conf: float) -> Celery:
    """Return an app on database 0 of the server; results in 1, what tasks note in 2."""
    app = Celery("pool_tests", broker=broker_url, task_cls=AsyncTask, set_as_current=False)
    app.conf.update(
        result_backend=with_database(broker_url, 1),
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": conf.pop("visibility_timeout", 3600),
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            "socket_timeout": 5,
            "socket_connect_timeout": 1,
        },
        worker_prefetch_multiplier=4,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        task_send_sent_event=True,
        task_queues=[Queue("celery"), Queue("hints", no_ack=True)],
        **conf,
    )
    return app


def with_database(url: str, number: int) -> str:
    return url.removesuffix("/0") + f"/{number}"


def _conf() -> dict[str, float]:
    lines = os.environ.get(CONF_VARIABLE, "").split()
    return {name: float(value) for name, _, value in (line.partition("=") for line in lines)}


_broker_url = os.environ.get(BROKER_VARIABLE, "redis://127.0.0.1:1/0")
if BROKER_VARIABLE in os.environ:
    use_hint_transport()  # a worker, reaching its broker as Turnmill's do
app = make_app(_broker_url, **_conf())
preloaded = Preloaded() if "TURNMILL_DATABASE_URL" in os.environ else None
notes = redis.Redis.from_url(with_database(_broker_url, 2), decode_responses=True)


class LoopUser(bootsteps.StartStopStep):
    """What needs the pool's loop from the start of the worker to its end."""

    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        self._note(worker, "started")

    def stop(self, worker: Any) -> None:
        self._note(worker, "stopped")

    def terminate(self, worker: Any) -> None:
        self._note(worker, "terminated")

    def _note(self, worker: Any, what: str) -> None:
        async def note() -> None:
            await asyncio.sleep(0)
            notes.rpush("loop user", what)

        if hasattr(worker.pool, "loop"):
            asyncio.run_coroutine_threadsafe(note(), worker.pool.loop).result(timeout=5)


app.steps["worker"].add(LoopUser)


def _note(name: str) -> Any:
    def receiver(sender: Any, task_id: str | None = None, **_: Any) -> None:
        notes.rpush(f"signals:{task_id or sender.request.id}", name)

    return receiver


for _signal in ("prerun", "postrun", "success", "failure", "retry"):
    getattr(signals, f"task_{_signal}").connect(_note(_signal), weak=False)


def enter(gauge: str) -> None:
    running = notes.incr(f"{gauge}:running")
    notes.zadd(f"{gauge}:peak", {"peak": running}, gt=True)


def leave(gauge: str) -> None:
    notes.decr(f"{gauge}:running")
    notes.incr(f"{gauge}:done")


@app.task
def read_history(kind: str, session: str) -> list[str]:
    assert preloaded is not None
    return preloaded.texts(kind, session)


@app.task(bind=True)
async def identity(self: Task) -> list[Any]:
    before = self.request.id
    await asyncio.sleep(0.01)
    return [
        before,
        self.request.id,
        current_task.request.id,
        self.request.delivery_info is not None,
    ]


@app.task
async def nap(seconds: float, gauge: str = "nap") -> float:
    enter(gauge)
    try:
        await asyncio.sleep(seconds)
    finally:
        leave(gauge)
    return seconds


@app.task
async def held(gauge: str) -> None:
    """Run until somebody notes that it is over, or half a minute."""
    enter(gauge)
    try:
        async with asyncio.timeout(30):
            while not notes.exists(f"{gauge}:over"):  # noqa: ASYNC110 - ended from elsewhere
                await asyncio.sleep(0.02)
    finally:
        leave(gauge)


@app.task(acks_late=True)
async def late_nap(seconds: float, gauge: str = "nap") -> float:
    enter(gauge)
    try:
        await asyncio.sleep(seconds)
    finally:
        leave(gauge)
    return seconds


@app.task
async def hint(seconds: float, gauge: str) -> float:
    return float(await nap(seconds, gauge))


@app.task
def sync_nap(seconds: float, gauge: str = "nap") -> str:
    enter(gauge)
    time.sleep(seconds)
    leave(gauge)
    return threading.current_thread().name


@app.task(acks_late=True)
def late_sync_nap(seconds: float, gauge: str = "nap") -> None:
    sync_nap(seconds, gauge)


@app.task
async def add(left: int, right: int) -> int:
    await asyncio.sleep(0)
    return left + right


@app.task
def sync_sum(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
async def add_by_another(left: int, right: int) -> int:
    return int(await add(left, right))


@app.task
def sync_add_by_another(left: int, right: int) -> int:
    return int(add(left, right))


@app.task(bind=True, max_retries=3)
async def flaky(self: Task) -> int:
    await asyncio.sleep(0)
    if self.request.retries < 2:
        # Not at once: the next run would overtake this one, which is yet to be stored as RETRY.
        raise self.retry(countdown=0.2, exc=ValueError("again"))
    return int(self.request.retries)


@app.task(bind=True, autoretry_for=(KeyError,), default_retry_delay=0.2, max_retries=3)
async def auto(self: Task) -> int:
    await asyncio.sleep(0)
    if self.request.retries < 2:
        raise KeyError("again")
    return int(self.request.retries)


@app.task
async def boom() -> None:
    await asyncio.sleep(0)
    raise RuntimeError("boom")


@app.task(acks_late=True)
async def ignored() -> None:
    await asyncio.sleep(0)
    raise Ignore


@app.task(acks_late=True)
async def rejected() -> None:
    await asyncio.sleep(0)
    raise Reject("no", requeue=False)


@app.task
async def retried_elsewhere() -> None:
    await asyncio.sleep(0)
    raise Retry("later", when=60)


@app.task
async def exits() -> None:
    await asyncio.sleep(0)
    raise SystemExit(3)


async def _clean_up() -> str:
    await asyncio.sleep(0.01)
    task = asyncio.current_task()
    return "cleaned up" if task and not task.cancelling() else "still cancelled"


@app.task(soft_time_limit=0.3)
async def softly_limited(seconds: float) -> str:
    try:
        await asyncio.sleep(seconds)
    except SoftTimeLimitExceeded:
        return await _clean_up()
    return "slept"


@app.task(time_limit=0.3)
async def hardly_limited(seconds: float, gauge: str = "hard") -> str:
    enter(gauge)
    try:
        await asyncio.sleep(seconds)
    finally:
        leave(gauge)
    return "slept"


@app.task(soft_time_limit=1)
async def softly_limited_seconds(seconds: float) -> str:
    try:
        await asyncio.sleep(seconds)
    except SoftTimeLimitExceeded:
        return await _clean_up()
    return "slept"


@app.task
async def structured() -> list[Any]:
    try:
        async with asyncio.timeout(0.02):
            await asyncio.sleep(5)
    except TimeoutError:
        async with asyncio.TaskGroup() as group:
            child = group.create_task(asyncio.sleep(0.01, "child"))
        return ["timed out", child.result()]
    return []


@app.task
async def stubborn(seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            notes.incr("stubborn")
    return "slept"


@app.task
async def blocks_the_loop(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251 - what the watch is to find
