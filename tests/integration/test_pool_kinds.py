"""Coroutines as tasks of every kind: each works as on `threads`, or is refused in clear words."""

import asyncio
import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from celery import Celery, Task, chord, group
from celery.exceptions import ImproperlyConfigured
from kombu.asynchronous.semaphore import LaxBoundedSemaphore
from pydantic import BaseModel, ValidationError

from tests.integration import pool_app, pool_kinds
from tests.integration.pool_worker import SOON, PoolWorker, emptied
from turnmill_worker.pool.async_task import AsyncTask
from turnmill_worker.pool.task_pool import TaskPool
from turnmill_worker.stack.process import wait_until
from turnmill_worker.stack.valkey import EmbeddedValkey


@pytest.fixture(scope="module", params=["asyncio", pytest.param("threads", marks=pytest.mark.long)])
def worker(
    request: pytest.FixtureRequest,
    valkey_server: EmbeddedValkey,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[PoolWorker]:
    folder = tmp_path_factory.mktemp("kinds")
    options = ("--concurrency=4",)
    with PoolWorker(
        request.param, emptied(valkey_server.url), folder, *options, tasks="pool_kinds"
    ) as worker:
        worker.notes.flushdb()
        yield worker


# Models


def test_models_go_in_and_come_out(worker: PoolWorker) -> None:
    assert worker.send("bills", {"number": 3}, 4).get() == {"total": 7, "shop": "corner"}
    assert worker.send("bills_by_another", 3).get() == {"total": 3}
    assert worker.send("bills_strictly", {"number": 3}).get() == {"total": 3}
    assert worker.send("bills_strictly", None).get() is None


@pytest.mark.parametrize(("task", "order"), [("bills", {}), ("bills_strictly", {"number": "3"})])
def test_what_is_no_model_fails_before_the_task_starts(
    worker: PoolWorker, task: str, order: dict[str, str]
) -> None:
    with pytest.raises(Exception, match="ValidationError"):
        worker.send(task, order).get()


def test_a_model_is_validated_and_dumped_without_a_worker_too() -> None:
    assert pool_kinds.bills.apply(({"number": 3},)).get() == {"total": 3, "shop": "corner"}
    with pytest.raises(ValidationError):
        pool_kinds.bills({})


# Bodies

BODIES = [
    *("decorated", "callable_object", "shared", "by_class", "by_call", "mixed"),
    *("sync_again", "applies_another", "replaced", "limited", "rejected_once"),
]


@pytest.mark.parametrize("task", BODIES)
def test_a_coroutine_of_this_kind_is_awaited(worker: PoolWorker, task: str) -> None:
    assert worker.send(task, 4).get() == 8
    assert wait_until(lambda: worker.unacknowledged() == 0, timeout=SOON)


def test_what_runs_on_the_loop_is_told_apart_from_what_runs_in_a_thread() -> None:
    on_loop = ["callable_object", "shared", "by_class", "by_call", "mixed"]
    tasks = {name: pool_app.app.tasks[f"{pool_kinds.__name__}.{name}"] for name in BODIES}
    assert all(tasks[name].is_coroutine for name in on_loop)
    assert not tasks["decorated"].is_coroutine
    assert not tasks["sync_again"].is_coroutine


# What Celery does with an end


def test_links_follow_a_result_and_an_error(worker: PoolWorker) -> None:
    signature = worker.app.signature
    kinds = pool_kinds.__name__
    worker.send("shared", 4, link=signature(f"{kinds}.notes_result")).get()
    with pytest.raises(KeyError):
        worker.send("throws", 4, link_error=signature(f"{kinds}.notes_error")).get()
    assert wait_until(functools.partial(worker.noted, "results linked"), timeout=SOON)
    assert wait_until(functools.partial(worker.noted, "errors linked"), timeout=SOON)
    worker.notes.delete("results linked", "errors linked", "rejected once")


def test_groups_and_chords_of_coroutines_end(worker: PoolWorker) -> None:
    double = worker.app.signature(f"{pool_kinds.__name__}.shared")
    total = worker.app.signature("tests.integration.pool_app.sync_sum")
    header = [double.clone((number,)) for number in range(4)]
    assert group(header, app=worker.app).apply_async().get(timeout=10) == [0, 2, 4, 6]
    assert chord(header, app=worker.app)(total).get(timeout=10) == 12


def test_a_result_that_is_not_wanted_is_not_kept(worker: PoolWorker) -> None:
    sent = worker.send("unkept", 4)
    assert worker.send("shared", 4).get() == 8
    assert sent.state == "PENDING"


# Without a worker


@pytest.fixture
def app() -> Iterator[Celery]:
    with Celery("kinds", task_cls=AsyncTask, broker="memory://", set_as_current=False) as app:
        yield app


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def test_an_eager_app_waits_for_its_coroutines_wherever_they_are_sent(app: Celery) -> None:
    app.conf.task_always_eager = True
    task = app.task(double, shared=False)

    async def nested(number: int) -> int:
        return int(task.delay(number).get(disable_sync_subtasks=False))

    outer = app.task(nested, shared=False)

    async def sends() -> int:
        return int(task.delay(4).get())

    assert task.delay(4).get() == 8
    assert asyncio.run(sends()) == 8
    assert outer.delay(4).get() == 8


async def numbers() -> AsyncIterator[int]:
    yield 1


class Numbers(pool_kinds.Named):
    async def __call__(self) -> AsyncIterator[int]:
        yield 1


@pytest.mark.parametrize("body", [numbers, Numbers("numbers")])
@pytest.mark.parametrize("pydantic", [False, True])
def test_an_async_generator_is_refused(app: Celery, body: Any, pydantic: bool) -> None:
    with pytest.raises(ImproperlyConfigured, match="kinds is an async generator"):
        app.task(body, name="kinds", pydantic=pydantic, shared=False, lazy=False)


@pytest.mark.parametrize("hook", ["before_start", "on_success", "on_failure", "on_retry"])
def test_a_hook_that_is_a_coroutine_is_refused(app: Celery, hook: str) -> None:
    async def body(self: Any, *args: Any) -> None: ...

    mixin = type("Mixin", (), {hook: body})
    with pytest.raises(ImproperlyConfigured, match=f"{hook} may not be async def"):
        type("Hooked", (mixin, app.Task), {})


class Order(BaseModel):
    number: int


async def takes(order: Order) -> None: ...


@pytest.mark.parametrize(
    ("body", "options"), [(double, {}), (takes, {"pydantic": True}), (numbers, {})]
)
def test_a_pool_refuses_coroutines_of_another_class(
    app: Celery, body: Any, options: dict[str, Any]
) -> None:
    app.task(body, base=Task, name="stranger", shared=False, **options)
    with pytest.raises(ImproperlyConfigured, match="stranger"):
        TaskPool(2, app=app, semaphore=LaxBoundedSemaphore(2)).start()
