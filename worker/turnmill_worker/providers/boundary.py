"""The edge to other people's code: what it raises or returns becomes a sound answer, or an error.

Providers, layers, price functions and observers may be anybody's. Nothing that they raise passes
this module, no BaseException either: it would end an event loop, and with it thousands of turns.
Nothing that they return passes it unread: every field is taken once, judged, and put into a plain
object of ours. An answer whose text is good is kept whatever else is wrong with it, for it is paid
for; where a field makes no sense, it counts as not given. Of what breaks, only the name is kept:
its words may quote the user.
"""

import logging
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from inspect import CO_ITERABLE_COROUTINE
from itertools import islice
from types import GeneratorType, MappingProxyType
from typing import Any, TypeVar

from turnmill.domain import errors
from turnmill.domain.errors import MaybeSent, NotSent, ProviderError, Rejected
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

logger = logging.getLogger("turnmill.boundary")

T = TypeVar("T")

Answer = Done | Running | Failed | Absent | Unknowable | NotNow

#: What each verb of a provider may answer with.
OF_SEND: tuple[type[Answer], ...] = (Done, Running)
OF_CHECK: tuple[type[Answer], ...] = (Done, Running, Failed, Absent, Unknowable)

#: A reply beyond it fails its turn.
MAX_REPLY_BYTES = 16 * 1024 * 1024
MAX_DETAIL = 4000  #: characters of a vendor's own words
MAX_ID = 200  #: characters of a request id, and of a model's name
MAX_REF = 1000  #: characters of a vendor's name for a thread, or for work in the background
MAX_KEPT = 100  #: ids of what a vendor stores, in one answer
MAX_TOKENS = 10**9
MAX_COST = Decimal(10**6)  #: US dollars, of one call
LONGEST_WAIT = timedelta(days=1)  #: that a provider can ask for after an error
LONGEST_POLL = timedelta(hours=1)
LONGEST_NOT_NOW = timedelta(days=1)  #: that a layer can put a call off for, each time
_SHORTEST_NOT_NOW = timedelta(seconds=0.1)  #: each time is a claim and a settle
_NOT_NOW_FOR = timedelta(seconds=5)  #: where a layer names no time that makes sense
_POLL_AFTER = timedelta(seconds=2)  #: where a provider names no time that makes sense

_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_NOTHING = timedelta(0)


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
) -> Answer | ProviderError:
    """Return what a provider answers, or the error that it stands for; raises nothing.

    A cancellation comes back as a `Bug` too: who has cancelled the call knows that it did, and
    else nobody of ours has.
    """
    try:
        answer: Any = ask()
        if _can_be_awaited(answer):
            answer = await answer
        return _sound(answer, among=among, max_bytes=max_bytes)
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


def provided(find: Callable[[str], Provider], name: str) -> Provider | ProviderError:
    """Return the provider of this name, or what stands in the way; nothing was sent then."""
    try:
        return find(name)
    except BaseException as raised:  # noqa: BLE001
        error = error_of(raised)
        return NotSent(error.error_code) if isinstance(error, Bug) else error


def cost_of(price: Callable[[], object]) -> Decimal | None:
    """Return what a price function says, or None where that is no amount of money."""
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
    logger.error("a provider raised %s", name)
    return Bug(f"bug:{name}"[:64])


def name_of(thing: object) -> str:
    """Return the name of its class, which is code and no content; never fails."""
    name = type.__dict__["__name__"].__get__(type(thing))
    return name if _CODE.fullmatch(name) else "unnamed"


def _sound_error(error: ProviderError) -> ProviderError:
    kind: type[ProviderError] = next(
        (one for one in type(error).__mro__ if one in _KINDS), MaybeSent
    )
    wait = _span(_field(error, "retry_after"), most=LONGEST_WAIT)
    return kind(
        _code(_field(error, "error_code")) or kind.code,
        detail=_words(_field(error, "detail")),
        retry_after=wait,
        request_id=_name(_field(error, "request_id"), most=MAX_ID),
        hint=_words(_field(error, "hint")),
        kept=_refs(_field(error, "kept")),
    )


def _sound(
    answer: object, *, among: tuple[type[Answer], ...], max_bytes: int
) -> Answer | ProviderError:
    if type(answer) is Done and _is_sound(answer, max_bytes=max_bytes):
        return answer
    for kind in among:
        if _is(answer, kind):
            return _SOUND[kind](answer, max_bytes)
    return _bad(f"it is a {name_of(answer)}")


def _bad(what: str) -> BadAnswer:
    logger.error("a provider returned something else than an answer: %s", what)
    return BadAnswer(detail=f"the provider's answer is none: {what}")


def _done(answer: object, max_bytes: int) -> Done | BadAnswer:
    text = _field(answer, "text")
    if not _is(text, str):
        return _bad(f"its text is a {name_of(text)}")
    text = str.__str__(text)
    if len(text) > max_bytes or (len(text) > max_bytes // 4 and _bytes_of(text) > max_bytes):
        return BadAnswer("reply_too_large", detail=f"the reply is longer than {max_bytes} bytes")
    return Done(
        text=text,
        usage=_usage(_field(answer, "usage")),
        finish_reason=_code(_field(answer, "finish_reason")) or "unknown",
        thread_ref=_name(_field(answer, "thread_ref"), most=MAX_REF),
        request_id=_name(_field(answer, "request_id"), most=MAX_ID),
        model=_name(_field(answer, "model"), most=MAX_ID),
        kept=_refs(_field(answer, "kept")),
    )


def _is_sound(done: Done, *, max_bytes: int) -> bool:
    """Tell whether nothing at all is wrong with a reply: it is taken as it is, without a copy.

    Of exactly these types nothing runs when a field is read. Reading all fields one by one as below
    takes five times as long, and nearly all replies are sound.
    """
    usage = done.usage
    return (
        type(done.text) is str
        and len(done.text) <= max_bytes // 4
        and type(usage) is Usage
        and _is_count(usage.input_tokens)
        and _is_count(usage.output_tokens)
        and _is_count(usage.cached_tokens)
        and _is_count(usage.cache_write_tokens)
        and _is_count(usage.cache_write_1h_tokens)
        and type(usage.service_tier) is str
        and (not usage.service_tier or _CODE.fullmatch(usage.service_tier) is not None)
        and type(done.finish_reason) is str
        and _CODE.fullmatch(done.finish_reason) is not None
        and _is_plain(done.thread_ref, most=MAX_REF)
        and _is_plain(done.request_id, most=MAX_ID)
        and _is_plain(done.model, most=MAX_ID)
        and type(done.kept) is tuple
        and len(done.kept) <= MAX_KEPT
        and all(one and _is_plain(one, most=MAX_REF) for one in done.kept)
    )


def _is_count(tokens: object) -> bool:
    return tokens is None or (type(tokens) is int and 0 <= tokens <= MAX_TOKENS)


def _is_plain(name: object, *, most: int) -> bool:
    return type(name) is str and len(name) <= most and name.isprintable()


def _running(answer: object, _: int) -> Running | BadAnswer:
    native_ref = _field(answer, "native_ref")
    if native_ref != "" and not _name(native_ref, most=MAX_REF):
        return _bad("its native_ref cannot be kept")  # and nobody could ask for the work again
    wait = _span(_field(answer, "poll_after"), most=LONGEST_POLL)
    return Running(
        native_ref=_name(native_ref, most=MAX_REF),
        poll_after=_POLL_AFTER if wait is None else wait,
        kept=_refs(_field(answer, "kept")),
    )


def _failed(answer: object, _: int) -> Failed | BadAnswer:
    error = _field(answer, "error")
    if not _is(error, ProviderError):
        return _bad(f"its error is a {name_of(error)}")
    return Failed(error=_sound_error(error))


def _absent(_: object, __: int) -> Absent:
    return Absent()


def _unknowable(answer: object, _: int) -> Unknowable:
    return Unknowable(resend_is_safe=_field(answer, "resend_is_safe") is True)


def _not_now(answer: object, _: int) -> NotNow:
    until = _field(answer, "until")
    if _is(until, datetime):
        until = _until(until)
    span = _span(until, most=LONGEST_NOT_NOW)
    return NotNow(
        until=_NOT_NOW_FOR if span is None else max(span, _SHORTEST_NOT_NOW),
        waits_for=_code(_field(answer, "waits_for")) or "unnamed",
    )


def _until(moment: datetime) -> timedelta | None:
    """Return how far ahead it is, on this machine's clock; None where nobody can tell."""
    try:
        return max(moment - datetime.now(UTC), _NOTHING)
    except BaseException:  # noqa: BLE001
        return None  # it has no time zone, or is a class of somebody's


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


def _is(thing: Any, kind: type) -> bool:
    """Tell whether it is one, whatever the thing itself says of its class."""
    return issubclass(type(thing), kind)


def _can_be_awaited(thing: Any) -> bool:
    if type(thing) is GeneratorType:
        return bool(thing.gi_code.co_flags & CO_ITERABLE_COROUTINE)  # of `types.coroutine`
    return hasattr(type(thing), "__await__")


def _field(thing: object, name: str) -> Any:
    """Read an attribute of somebody's object, once; None where it cannot be read."""
    try:
        return getattr(thing, name)
    except BaseException:  # noqa: BLE001
        return None


def _usage(usage: object) -> Usage:
    if not _is(usage, Usage):
        usage = None
    return Usage(**{name: judge(_field(usage, name)) for name, judge in _COUNTED.items()})


def _count(tokens: object) -> int | None:
    return tokens if type(tokens) is int and 0 <= tokens <= MAX_TOKENS else None


def _code(value: Any) -> str:
    """Return a word that may stand in logs and labels, or ""."""
    return str.__str__(value) if _is(value, str) and _CODE.fullmatch(value) else ""


#: What is known of a call's usage: counts, and what counts them.
_COUNTED: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {one.name: _code if one.type is str else _count for one in fields(Usage)}
)


def _name(value: Any, *, most: int) -> str:
    """Return a name that any store can keep, or ""."""
    if _is(value, str) and str.__len__(value) <= most and str.isprintable(value):
        return str.__str__(value)
    return ""


def _refs(value: Any) -> tuple[str, ...]:
    """Return the names among what is said to be kept; a lone one is one of them."""
    if _is(value, str):
        value = (value,)
    try:
        names = [_name(one, most=MAX_REF) for one in islice(value, MAX_KEPT)]
    except BaseException:  # noqa: BLE001
        return ()
    return tuple(filter(None, names))


def _words(value: Any) -> str:
    return str.__str__(value)[:MAX_DETAIL] if _is(value, str) else ""


def _span(value: Any, *, most: timedelta) -> timedelta | None:
    """Return a time from 0 to `most`, or None where it is none."""
    if not _is(value, timedelta):
        return None
    span = timedelta(
        days=timedelta.days.__get__(value),
        seconds=timedelta.seconds.__get__(value),
        microseconds=timedelta.microseconds.__get__(value),
    )
    return min(span, most) if span >= _NOTHING else None


def _bytes_of(text: str) -> int:
    return len(str.encode(text, "utf-8", "surrogatepass"))
