"""Tasks of every kind that Celery's decorator makes, as coroutines, on the tests' app."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, Self

from celery import Task, shared_task
from celery.exceptions import Reject
from pydantic import BaseModel, ValidationInfo, model_validator

from tests.integration.pool_app import app, notes


class Order(BaseModel):
    number: int
    shop: str = ""

    @model_validator(mode="after")
    def _take_from_context(self, info: ValidationInfo) -> Self:
        if info.context:
            self.shop = info.context.get("shop", self.shop)
        return self


class Bill(BaseModel):
    total: int
    shop: str


@app.task(bind=True, pydantic=True, pydantic_context={"shop": "corner"})
async def bills(self: Task, order: Order, extra: int = 0) -> Bill:
    assert self.request.id
    await asyncio.sleep(0)
    return Bill(total=order.number + extra, shop=order.shop)


@app.task(pydantic=True, pydantic_strict=True, pydantic_dump_kwargs={"exclude": {"shop"}})
async def bills_strictly(order: Order | None) -> Bill | None:
    await asyncio.sleep(0)
    return Bill(total=order.number, shop="hidden") if order else None


@app.task
async def bills_by_another(number: int) -> Any:
    return await bills_strictly({"number": number})


def _decorated(body: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    @functools.wraps(body)
    def function(*args: Any) -> Awaitable[Any]:
        return body(*args)

    return function


async def _double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


@app.task
@_decorated
async def decorated(number: int) -> int:
    return await _double(number)


class Named:
    """What Celery asks of an object that it is to call."""

    def __init__(self, name: str) -> None:
        self.__name__ = self.__qualname__ = name
        self.__annotations__ = {}


class Doubler(Named):
    async def __call__(self, number: int) -> int:
        return await _double(number)


app.task(Doubler("callable_object"))


@shared_task
async def shared(number: int) -> int:
    return await _double(number)


class ByClass(app.Task):
    name = f"{__name__}.by_class"

    async def run(self, number: int) -> int:
        return await _double(number)


class ByCall(app.Task):
    name = f"{__name__}.by_call"

    def run(self, number: int) -> int:
        return number

    async def __call__(self, number: int) -> int:
        return await _double(self.run(number))


class Mixin:
    async def run(self, number: int) -> int:
        return await _double(number)


class Mixed(Mixin, app.Task):
    name = f"{__name__}.mixed"


class SyncAgain(ByClass):
    name = f"{__name__}.sync_again"

    def run(self, number: int) -> int:  # type: ignore[override]
        asyncio.run(asyncio.sleep(0))  # fails where a loop runs
        return 2 * number


for _task in (ByClass, ByCall, Mixed, SyncAgain):
    app.register_task(_task())


@app.task(bind=True)
async def applies_another(self: Task, number: int) -> int:
    return int(shared.apply((number,)).get(disable_sync_subtasks=False))


@app.task(bind=True)
async def replaced(self: Task, number: int) -> int:
    await asyncio.sleep(0)
    raise self.replace(shared.s(number))


@app.task(rate_limit="100/s")
async def limited(number: int) -> int:
    return await _double(number)


@app.task(ignore_result=True)
async def unkept(number: int) -> int:
    return await _double(number)


@app.task(throws=(KeyError,))
async def throws(number: int) -> None:
    await asyncio.sleep(0)
    raise KeyError(number)


@app.task(bind=True, acks_late=True)
async def rejected_once(self: Task, number: int) -> int:
    await asyncio.sleep(0)
    if notes.incr("rejected once") == 1:
        raise Reject("again", requeue=True)
    return 2 * number


@app.task
async def notes_error(request: Any, error: Any, traceback: Any) -> None:
    notes.incr("errors linked")


@app.task
async def notes_result(result: int) -> None:
    notes.incr("results linked")
