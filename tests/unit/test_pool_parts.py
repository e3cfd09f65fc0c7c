"""What the pool is made of: crossings between threads, the bridge, the watch, coroutine tasks."""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, Task
from celery.exceptions import ImproperlyConfigured
from kombu.asynchronous.semaphore import LaxBoundedSemaphore

from turnmill_worker.pool.async_task import AsyncTask
from turnmill_worker.pool.bridge import Driven, await_here
from turnmill_worker.pool.crossing import Bell, Mailbox
from turnmill_worker.pool.task_pool import TaskPool
from turnmill_worker.pool.watch import LoopWatch

SOON = timedelta(seconds=5)


# Mailboxes


def test_a_mailbox_wakes_its_reader_once_for_all_that_piles_up() -> None:
    woken: list[None] = []
    box: Mailbox[int] = Mailbox(lambda: woken.append(None))
    for number in range(3):
        box.put(number)
    assert len(woken) == 1
    assert list(box.take()) == [0, 1, 2]
    box.put(3)
    assert len(woken) == 2


def test_what_is_put_in_while_the_reader_reads_wakes_it_again() -> None:
    woken: list[None] = []
    box: Mailbox[int] = Mailbox(lambda: woken.append(None))
    box.put(0)
    for number in box.take():
        if number == 0:
            box.put(1)
    assert len(woken) == 2


def test_a_reader_waits_no_longer_than_its_patience() -> None:
    box: Mailbox[int] = Mailbox(lambda: None)
    assert list(box.take(patience=timedelta(milliseconds=1))) == []
    threading.Timer(0.01, box.put, (1,)).start()
    assert list(box.take(patience=SOON)) == [1]


def test_two_threads_cross_without_losing_anything() -> None:
    waiting: queue.SimpleQueue[None] = queue.SimpleQueue()
    box: Mailbox[int] = Mailbox(lambda: waiting.put(None))

    def write() -> None:
        for number in range(20_000):
            box.put(number)

    writer = threading.Thread(target=write)
    writer.start()
    taken: list[int] = []
    deadline = time.monotonic() + SOON.total_seconds()
    while len(taken) < 20_000 and time.monotonic() < deadline:
        waiting.get(timeout=SOON.total_seconds())
        taken.extend(box.take())
    writer.join()
    assert taken == list(range(20_000))


def test_a_bell_rings_any_number_of_times_and_after_it_was_closed() -> None:
    bell = Bell()
    for _ in range(100_000):  # more than its socket holds
        bell.ring()
    bell.hush()
    bell.close()
    bell.ring()


# The bridge


def drive(function: Callable[[], Any], interruption: Callable[[], Exception | None]) -> Any:
    async def body() -> Any:
        return await Driven(function, interruption)

    return asyncio.run(body())


def test_a_driven_function_waits_for_a_coroutine_and_returns_its_result() -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    assert drive(lambda: await_here(answer()) + 1, lambda: None) == 43


def test_what_a_coroutine_awaits_may_fail_and_it_may_handle_that() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError

    async def recovers() -> str:
        try:
            await asyncio.create_task(fails())
        except KeyError:
            return "recovered"
        return "not reached"

    assert drive(lambda: await_here(recovers()), lambda: None) == "recovered"
    with pytest.raises(KeyError):
        drive(lambda: await_here(fails()), lambda: None)


def test_a_cancellation_is_seen_as_what_the_owner_says_it_is() -> None:
    async def seen() -> str:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_soon(task.cancel)
        try:
            await asyncio.sleep(60)
        except TimeoutError:
            return "a time limit"
        return "slept"

    assert drive(lambda: await_here(seen()), TimeoutError) == "a time limit"
    with pytest.raises(asyncio.CancelledError):
        drive(lambda: await_here(seen()), lambda: None)


def test_context_variables_reach_the_coroutine_and_do_not_leak() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")

    async def change() -> str:
        seen = variable.get()
        variable.set("inside")
        await asyncio.sleep(0)
        return seen + ", " + variable.get()

    async def body() -> tuple[str, str]:
        variable.set("outside")
        seen = await Driven(lambda: await_here(change()), lambda: None)
        return seen, variable.get()

    assert asyncio.run(body()) == ("outside, inside", "outside")


# Coroutine tasks


@pytest.fixture
def app() -> Iterator[Celery]:
    with Celery("tests", task_cls=AsyncTask, broker="memory://", set_as_current=False) as app:
        yield app


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def triple(number: int) -> int:
    return 3 * number


async def leave() -> None:
    await asyncio.sleep(0)
    raise SystemExit(3)


def test_a_coroutine_task_called_as_a_function_gives_its_result(app: Celery) -> None:
    task = app.task(double, shared=False)
    assert task(4) == 8
    assert task.apply((4,)).get() == 8


def test_a_coroutine_task_called_from_a_coroutine_is_awaited(app: Celery) -> None:
    task = app.task(double, shared=False)

    async def caller() -> int:
        return int(await task(4))

    assert asyncio.run(caller()) == 8


def test_a_coroutine_task_that_exits_leaves_the_loop_beside_the_pool_alive(app: Celery) -> None:
    task = app.task(leave, shared=False)
    for _ in range(2):
        with pytest.raises(SystemExit):
            task()


# What the pool refuses


def new_pool(app: Celery, **options: Any) -> TaskPool:
    return TaskPool(2, app=app, semaphore=LaxBoundedSemaphore(2), **options)


def test_a_pool_refuses_coroutines_that_it_could_not_run(app: Celery) -> None:
    app.task(double, base=Task, name="stranger", shared=False)
    with pytest.raises(ImproperlyConfigured, match="stranger"):
        new_pool(app).start()


def test_a_pool_refuses_a_broker_without_an_event_loop(app: Celery) -> None:
    with pytest.raises(ImproperlyConfigured, match="Redis or an AMQP broker"):
        TaskPool(2, app=app).start()


def test_a_pool_says_which_limits_it_cannot_keep(
    app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    app.task(triple, name="ordinary", time_limit=1, shared=False)
    pool = new_pool(app, max_memory_per_child=1000)
    pool.start()
    pool.stop()
    assert "max_memory_per_child is ignored" in caplog.text
    assert "a hard one leaves it behind: ordinary" in caplog.text


# Slots


def test_any_number_of_tasks_revoked_while_they_waited_are_passed_over(app: Celery) -> None:
    slots = LaxBoundedSemaphore(1)
    pool = TaskPool(1, app=app, semaphore=slots)
    worker = SimpleNamespace(pool=pool)
    pool._on_worker_ready(sender=SimpleNamespace(controller=worker))
    passed_over: list[int] = []

    def find_it_revoked(number: int) -> None:
        passed_over.append(number)
        worker._quick_release()

    slots.acquire(lambda: None)
    for number in range(5_000):
        slots.acquire(find_it_revoked, number)
    pool.flush()
    assert passed_over == list(range(5_000))
    assert slots.value == 1


# The watch


def test_the_watch_names_places_and_no_values(caplog: pytest.LogCaptureFixture) -> None:
    released = threading.Event()

    def blocks_with(secret: str) -> None:
        released.wait(timeout=SOON.total_seconds())

    async def body() -> LoopWatch:
        watch = LoopWatch(
            asyncio.get_running_loop(),
            too_long=timedelta(milliseconds=20),
            period=timedelta(milliseconds=1),
        )
        watch.start(threading.current_thread())
        for _ in range(2):
            threading.Timer(0.2, released.set).start()
            await asyncio.sleep(0.01)
            blocks_with("the secret")
            released.clear()
        await asyncio.to_thread(watch.stop)
        return watch

    with caplog.at_level(logging.WARNING, logger="turnmill.pool"):
        watch = asyncio.run(body())
    assert watch.blocks >= 2  # on a busy machine the loop may stand still without us, too
    assert watch.longest >= timedelta(milliseconds=20)
    assert len(caplog.records) == 1, "the second is only counted"
    assert "blocks_with (" in caplog.text
    assert "secret" not in caplog.text.replace("blocks_with", "")
