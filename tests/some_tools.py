"""Tools for tests: those that work, and those that do not."""

import asyncio
import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator

from turnmill import ToolContext, ToolError, tool

#: Set by a test that lets the tools go on which wait.
GO_ON = threading.Event()
BEGUN: list[str] = []
STOPPED: list[str] = []
SECRET = "secret-7d1"


@dataclass
class Place:
    """Where something is."""

    lat: float
    lon: float = 0.0


@tool(effects="none")
def weather(city: str, at: Place | None = None) -> str:
    """Tell the weather.

    Args:
        city: As people there call it.
        at: Nearer than that.
    """
    return f"sunny in {city}" if at is None else f"sunny at {at.lat:g}"


@tool(effects="none")
async def add(a: int, b: int = 1) -> dict[str, int]:
    """Add two numbers."""
    return {"sum": a + b}


_meeting: dict[str, asyncio.Event] = {}


@tool(effects="none")
async def meet(me: str, other: str) -> str:
    """Return when the other one is there as well."""
    _meeting.setdefault(me, asyncio.Event()).set()
    await _meeting.setdefault(other, asyncio.Event()).wait()
    return f"{me} met {other}"


@tool(effects="none")
def breaks() -> str:
    """Break, in words that nobody is to read."""
    raise ValueError(SECRET)


@tool(effects="none")
async def exits() -> str:
    """Want to end the process."""
    raise SystemExit(SECRET)


@tool
def apologises() -> str:
    """Say what is wrong."""
    raise ToolError("the card was declined")


@tool(timeout=timedelta(seconds=0.2))
def sleeps() -> str:
    """Take longer than it may, in a thread."""
    GO_ON.wait(20)
    return "too late"


@tool(timeout=timedelta(seconds=0.2), effects="none")
async def dawdles() -> str:
    """Take longer than it may, on the loop."""
    await asyncio.sleep(20)
    return "too late"


@tool(effects="none")
def shouts(length: int) -> str:
    """Return a long output."""
    return "x" * length


@tool(effects="none")
def mute() -> object:
    """Return what is no JSON."""
    return object()


def _made(names: list[str]) -> Iterator[str]:
    """Yield what is made when it is asked for, and whether that is on an event loop."""
    for name in names:
        yield f"{name} {asyncio._get_running_loop() is not None}"


@tool(effects="none")
def yields(names: list[str]) -> Iterator[str]:
    """Return pieces that are not made yet."""
    return _made(names)


@tool(effects="none")
async def maps(names: list[str]) -> Iterator[str]:
    """Return pieces that are not made yet, on the loop."""
    return map(str.upper, _made(names))


@tool(effects="none")
def counts() -> Iterator[int]:
    """Return pieces without an end."""
    return itertools.count()


@tool(effects="none")
async def holds_lazy(names: list[str]) -> dict[str, Any]:
    """Return what holds pieces that are not made yet, on the loop."""
    return {"rows": map(str.upper, _made(names))}


@tool(effects="none")
async def holds_endless() -> dict[str, Any]:
    """Return what holds pieces without an end."""
    return {"rows": [itertools.count()]}


@tool(effects="none")
def hushes() -> str:
    """Raise words that want to end the process when they are read."""
    raise Hushed("never read")


class Hushed(ToolError):
    """Somebody's own kind of it."""

    def __str__(self) -> str:
        raise SystemExit(SECRET)


def _minded(name: str) -> str:
    return next(_made([name]))


def _held(name: str) -> str:
    GO_ON.wait(20)
    return name


@tool(effects="none")
async def minds(name: Annotated[str, AfterValidator(_minded)]) -> str:
    """Return what a validator of its own has made of its argument."""
    return name


@tool(timeout=timedelta(seconds=0.2))
async def is_held(name: Annotated[str, AfterValidator(_held)]) -> str:
    """Have an argument that is never read."""
    return name


@tool(effects="idempotent")
def tells(context: ToolContext) -> str:
    """Return what it is told of the call."""
    shown = (context.user_id, context.metadata.get("told"), context.attempt, context.step)
    return f"{shown} {context.call_id} {context.idempotency_key}"


@tool(effects="none")
async def lingers(name: str) -> str:
    """Wait until somebody stops it."""
    BEGUN.append(name)
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        STOPPED.append(name)
        raise
    return "nobody stopped it"


@tool(effects="idempotent")
def holds() -> str:
    """Hold its thread until the test lets it go."""
    return "went on" if GO_ON.wait(20) else "was forgotten"


@tool(effects="idempotent", approval=True, expires=timedelta(seconds=30))
def pays(amount: int) -> str:
    """Pay, if somebody agrees."""
    return f"paid {amount}"
