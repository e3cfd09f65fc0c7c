"""How the contract suite puts its questions, and judges what it hears."""

import logging
from collections.abc import Awaitable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, NoReturn, TypeVar

import pytest

from turnmill.domain.errors import ProviderError
from turnmill.testing.provider_rig import Fault, Rig
from turnmill_worker.providers.boundary import MAX_REPLY_BYTES, judged, taken_by
from turnmill_worker.providers.port import Done, Emit, Provider, Request

T = TypeVar("T")


def had(thing: T | None, what: str) -> T:
    """Return it; a rig that has none skips the promise."""
    if thing is None:
        pytest.skip(f"the rig has no such thing: {what}")
    return thing


async def meet(rig: Rig, fault: Fault) -> None:
    """Let all requests meet the fault; a rig that does not know it skips the promise."""
    if fault not in rig.faults:
        pytest.skip(f"the rig does not know the fault {fault!r}")
    await rig.meet(fault)


def failures(rig: Rig, *, but: Collection[Fault] = ()) -> list[tuple[Fault, type[ProviderError]]]:
    """Return the faults of the rig that end a call; one that knows none skips the promise."""
    found = [one for one in rig.failures() if one[0] not in but]
    if not found:
        pytest.skip("the rig knows no fault that ends a call")
    return found


async def answered(rig: Rig, text: str = "Hello", **given: Any) -> Done:
    """Send a message that nothing is wrong with."""
    reply = await rig.provider.send(rig.request(text, **given))
    assert isinstance(reply, Done), f"a plain message was answered with {type(reply).__name__}"
    return reply


async def failed(
    rig: Rig, fault: Fault, text: str = "Hello", emit: Emit | None = None
) -> BaseException:
    """Return what a call raises that meets the fault."""
    await rig.meet(fault)
    error = await error_of(rig, rig.request(text), emit)
    if fault is not Fault.UNREACHABLE:
        await rig.meet(None)
    if error is None:
        raise AssertionError(f"{fault} was answered as if nothing were wrong")
    return error


async def error_of(rig: Rig, request: Request, emit: Emit | None = None) -> BaseException | None:
    """Return what the call raises, or None when it was answered."""
    try:
        await (rig.provider.send(request, emit) if emit else rig.provider.send(request))
    except (Exception, SystemExit, GeneratorExit) as error:  # noqa: BLE001  # it is judged
        return error
    return None


async def is_sound(answer: Any, *, among: tuple[type[Any], ...], provider: Provider) -> None:
    """Compare it with what a worker makes of it: what differs makes no sense to it."""
    takes = taken_by(provider)
    sound: Any = await judged(lambda: answer, among=among, max_bytes=MAX_REPLY_BYTES, takes=takes)
    if type(sound) is not type(answer):
        _unsound(f"{type(answer).__name__} is no answer that can be kept")
    for one in fields(sound):
        given, taken = getattr(answer, one.name), getattr(sound, one.name)
        if one.name in ("kept", "parts"):
            given = tuple(given)
        if one.name != "error" and given != taken:
            _unsound(f"`{one.name}` is a {type(given).__name__} that counts as {taken!r}")


def _unsound(what: str) -> NoReturn:
    raise AssertionError(what)


async def quietly(what: str, verb: Awaitable[object]) -> None:
    """Await a verb that may be called twice."""
    try:
        await verb
    except ProviderError as error:
        _unsound(f"{what} once more raised {error!r}: gone already counts as success")


@contextmanager
def raises(*kinds: type[Exception]) -> Iterator[list[Any]]:
    """Expect one of these errors, and yield a list that it is put into."""
    caught: list[Any] = []
    with pytest.raises(kinds) as raised:
        yield caught
    caught.append(raised.value)


@contextmanager
def log() -> Iterator[list[str]]:
    """Collect all that is logged at INFO or above."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(logging.Formatter().format(record))  # type: ignore[method-assign]
    root, before = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
