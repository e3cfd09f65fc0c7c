"""The edge to other people's code: what it raises or returns becomes a sound answer, or an error.

Providers, layers, price functions and observers may be anybody's. Nothing that they raise passes
this module, no BaseException either: it would end an event loop, and with it thousands of turns.
Nothing that they return passes it unread: every field is taken once, judged, and put into a plain
object of ours. An answer whose text is good is kept whatever else is wrong with it, for it is paid
for; where a field makes no sense, it counts as not given. Of what breaks, only the name is kept:
its words may quote the user.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from inspect import CO_ITERABLE_COROUTINE
from types import GeneratorType, MappingProxyType
from typing import Any, TypeVar

from turnmill.domain import errors
from turnmill.domain.content import TEXT_ONLY, Kind
from turnmill.domain.errors import MaybeSent, NotSent, ProviderError, Rejected
from turnmill_worker.providers.decimals import of_money
from turnmill_worker.providers.fields import (
    MAX_KEPT,
    MAX_REF,
    code_in,
    is_plain,
    is_sound,
    name_in,
    refs_in,
    span_in,
    time_until,
    usage_of,
    words_in,
)
from turnmill_worker.providers.foreign import CODE, field, is_a
from turnmill_worker.providers.foreign import name_of as name_of
from turnmill_worker.providers.port import (
    Absent,
    Done,
    Failed,
    NotNow,
    Provider,
    Running,
    Unknowable,
    Usage,
)
from turnmill_worker.providers.said import are_longer, is_one_text, parts_of
from turnmill_worker.providers.said import taken_by as taken_by

logger = logging.getLogger("turnmill.boundary")

T = TypeVar("T")

#: Bytes of what work says that was stopped: nobody reads it.
_OF_STOPPED = 1_000_000

Answer = Done | Running | Failed | Absent | Unknowable | NotNow

#: What each verb of a provider may answer with.
OF_SEND: tuple[type[Answer], ...] = (Done, Running)
OF_CHECK: tuple[type[Answer], ...] = (Done, Running, Failed, Absent, Unknowable)

#: A reply beyond it fails its turn.
MAX_REPLY_BYTES = 16 * 1024 * 1024
MAX_ID = 200  #: characters of a request id, and of a model's name
MAX_COST = Decimal(10**6)  #: US dollars, of one call
LONGEST_WAIT = timedelta(days=1)  #: that a provider can ask for after an error
LONGEST_POLL = timedelta(hours=1)
LONGEST_NOT_NOW = timedelta(days=1)  #: that a layer can put a call off for, each time
_SHORTEST_NOT_NOW = timedelta(seconds=0.1)  #: each time is a claim and a settle
_NOT_NOW_FOR = timedelta(seconds=5)  #: where a layer names no time that makes sense
_POLL_AFTER = timedelta(seconds=2)  #: where a provider names no time that makes sense


class Bug(MaybeSent):
    """Other people's code broke, and nobody knows what it had done until then."""


class BadAnswer(Rejected):
    """What was returned is no answer that can be kept: it is not asked for again."""

    code = "bad_answer"


class Fault(NotSent):
    """The turn could not be put to its provider, for a reason on our side: no attempt is spent."""

    code = "fault"


#: What may be raised: each error of ours is its own kind, also when it is judged a second time.
_KINDS: Collection[type[ProviderError]] = frozenset(
    one
    for one in (*vars(errors).values(), Bug, BadAnswer, Fault)
    if isinstance(one, type) and issubclass(one, ProviderError) and one is not ProviderError
)


async def judged(
    ask: Callable[[], object],
    *,
    among: tuple[type[Answer], ...],
    max_bytes: int,
    takes: frozenset[Kind] = TEXT_ONLY,
) -> Answer | ProviderError:
    """Return what a provider answers, or the error that it stands for; raises nothing.

    What it says has to be of kinds that it `takes` itself: it will be shown it with the next turn.

    A cancellation comes back as a `Bug` too: who has cancelled the call knows that it did, and
    else nobody of ours has.
    """
    try:
        answer: Any = ask()
        if _can_be_awaited(answer):
            answer = await answer
        found = _sound(answer, among=among, max_bytes=max_bytes)
        return _untaken(found, takes) or found
    except BaseException as error:  # noqa: BLE001
        return error_of(error)


async def done(act: Callable[[], object]) -> ProviderError | None:
    """Do what has no answer, and return what stood in the way; raises nothing. See `judged`."""
    try:
        found: Any = act()
        if _can_be_awaited(found):
            await found
    except BaseException as error:  # noqa: BLE001
        return error_of(error)
    return None


async def stopped(act: Callable[[], object]) -> Done | ProviderError | None:
    """Have work stopped, and return what it had used; None where nobody says. Raises nothing."""
    try:
        found: Any = act()
        if _can_be_awaited(found):
            found = await found
        if not is_a(found, Done):
            return None
        told = _sound(found, among=(Done,), max_bytes=_OF_STOPPED)
        return told if isinstance(told, Done) else None
    except BaseException as error:  # noqa: BLE001
        return error_of(error)


def provided(find: Callable[[str], Provider], name: str) -> Provider | ProviderError:
    """Return the provider of this name, or what stands in the way; nothing was sent then."""
    try:
        return find(name)
    except BaseException as raised:  # noqa: BLE001
        error = error_of(raised)
        return NotSent(error.error_code) if isinstance(error, Bug) else error


def cost_of(price: Callable[[], object]) -> Decimal | None:
    """Return what a price function says, or None where that is no amount of money."""
    with of_money():
        cost = attempted("a price function", price)
    if cost is None:
        return None
    if type(cost) is Decimal and cost.is_finite() and 0 <= cost < MAX_COST:
        return cost
    logger.error("a price function returned something else than an amount: %s", name_of(cost))
    return None


def attempted(who: str, act: Callable[[], T]) -> T | None:
    """Return what `act` returns, or None where it fails; who that is, and how, goes to the log."""
    try:
        return act()
    except BaseException as error:  # noqa: BLE001
        logger.error("%s failed: %s", who, name_of(error))
        return None


def error_of(raised: BaseException) -> ProviderError:
    """Return a sound error of ours for whatever was raised."""
    try:
        while isinstance(raised, BaseExceptionGroup) and len(raised.exceptions) == 1:
            raised = raised.exceptions[0]  # of a TaskGroup of theirs
        if isinstance(raised, ProviderError):
            return _sound_error(raised)
    except BaseException as error:  # noqa: BLE001
        raised = error
    name = name_of(raised)
    if not (isinstance(raised, asyncio.CancelledError) and _is_closed()):
        logger.error("a provider raised %s", name)
    return Bug(f"bug:{name}"[:64])


def _is_closed() -> bool:
    """Tell whether somebody of ours has cancelled the call: then it has done as it was told."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False
    return task is not None and task.cancelling() > 0


def _sound_error(error: ProviderError) -> ProviderError:
    kind: type[ProviderError] = next(
        (one for one in type(error).__mro__ if one in _KINDS), MaybeSent
    )
    wait = span_in(field(error, "retry_after"), most=LONGEST_WAIT)
    return kind(
        code_in(field(error, "error_code")) or kind.code,
        detail=words_in(field(error, "detail")),
        retry_after=wait,
        request_id=name_in(field(error, "request_id"), most=MAX_ID),
        hint=words_in(field(error, "hint")),
        kept=refs_in(field(error, "kept")),
        answered=field(error, "answered") is True,
        of_account=field(error, "of_account") is True,
        used=_used(field(error, "used")),
    )


def _used(used: object) -> Done | None:
    if not is_a(used, Done):
        return None
    found = _sound(used, among=(Done,), max_bytes=MAX_REPLY_BYTES)
    return Done(text="", usage=found.usage, model=found.model) if isinstance(found, Done) else None


def _sound(
    answer: object, *, among: tuple[type[Answer], ...], max_bytes: int
) -> Answer | ProviderError:
    if type(answer) is Done and _is_sound(answer, max_bytes=max_bytes):
        return answer
    for kind in among:
        if is_a(answer, kind):
            return _SOUND[kind](answer, max_bytes)
    return _bad(f"it is a {name_of(answer)}")


def _untaken(answer: Answer | ProviderError, takes: frozenset[Kind]) -> BadAnswer | None:
    if isinstance(answer, Done):
        for part in answer.parts:
            if type(part) not in takes:
                return _bad(f"it says a {part.kind}, which the provider does not take itself")
    return None


def _bad(what: str) -> BadAnswer:
    logger.error("a provider returned something else than an answer: %s", what)
    return BadAnswer(detail=f"the provider's answer is none: {what}")


def _done(answer: object, max_bytes: int) -> Done | BadAnswer:
    parts = parts_of(answer)
    if isinstance(parts, str):
        return _bad(parts)
    if are_longer(parts, max_bytes):
        return BadAnswer("reply_too_large", detail=f"the reply is longer than {max_bytes} bytes")
    return Done(
        parts=parts,
        usage=usage_of(field(answer, "usage")),
        finish_reason=code_in(field(answer, "finish_reason")) or "unknown",
        thread_ref=name_in(field(answer, "thread_ref"), most=MAX_REF),
        request_id=name_in(field(answer, "request_id"), most=MAX_ID),
        model=name_in(field(answer, "model"), most=MAX_ID),
        kept=refs_in(field(answer, "kept")),
    )


def _is_sound(done: Done, *, max_bytes: int) -> bool:
    """Tell whether nothing at all is wrong with a reply: it is taken as it is, without a copy.

    Of exactly these types nothing runs when a field is read. Reading all fields one by one as below
    takes five times as long, and nearly all replies are sound.
    """
    try:
        usage = done.usage
        return (
            is_one_text(done.parts, most=max_bytes // 4)
            and type(usage) is Usage
            and is_sound(usage)
            and type(done.finish_reason) is str
            and CODE.fullmatch(done.finish_reason) is not None
            and is_plain(done.thread_ref, most=MAX_REF)
            and is_plain(done.request_id, most=MAX_ID)
            and is_plain(done.model, most=MAX_ID)
            and type(done.kept) is tuple
            and len(done.kept) <= MAX_KEPT
            and all(one and is_plain(one, most=MAX_REF) for one in done.kept)
        )
    except AttributeError:
        return False  # put together by hand: not every field was set


def _running(answer: object, _: int) -> Running | BadAnswer:
    native_ref = field(answer, "native_ref")
    if native_ref != "" and not name_in(native_ref, most=MAX_REF):
        return _bad("its native_ref cannot be kept")  # and nobody could ask for the work again
    wait = span_in(field(answer, "poll_after"), most=LONGEST_POLL)
    return Running(
        native_ref=name_in(native_ref, most=MAX_REF),
        poll_after=_POLL_AFTER if wait is None else wait,
        kept=refs_in(field(answer, "kept")),
    )


def _failed(answer: object, _: int) -> Failed | BadAnswer:
    error = field(answer, "error")
    if not is_a(error, ProviderError):
        return _bad(f"its error is a {name_of(error)}")
    return Failed(error=_sound_error(error))


def _absent(_: object, __: int) -> Absent:
    return Absent()


def _unknowable(answer: object, _: int) -> Unknowable:
    return Unknowable(resend_is_safe=field(answer, "resend_is_safe") is True)


def _not_now(answer: object, _: int) -> NotNow:
    until = field(answer, "until")
    if is_a(until, datetime):
        until = time_until(until)
    span = span_in(until, most=LONGEST_NOT_NOW)
    return NotNow(
        until=_NOT_NOW_FOR if span is None else max(span, _SHORTEST_NOT_NOW),
        waits_for=code_in(field(answer, "waits_for")) or "unnamed",
    )


_SOUND: Mapping[type[Answer], Callable[[object, int], Answer | ProviderError]] = MappingProxyType(
    {
        Done: _done,
        Running: _running,
        Failed: _failed,
        Absent: _absent,
        Unknowable: _unknowable,
        NotNow: _not_now,
    }
)


def _can_be_awaited(thing: Any) -> bool:
    if type(thing) is GeneratorType:
        return bool(thing.gi_code.co_flags & CO_ITERABLE_COROUTINE)  # of `types.coroutine`
    return hasattr(type(thing), "__await__")
