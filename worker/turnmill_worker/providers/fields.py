"""Fields of what other people's code returns: what makes no sense counts as not given."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from itertools import islice
from types import MappingProxyType
from typing import Any

from turnmill_worker.providers.foreign import CODE, field, is_a
from turnmill_worker.providers.port import Usage

MAX_DETAIL = 4000  #: characters of a vendor's own words
MAX_REF = 1000  #: characters of a vendor's name for a thread, or for work in the background
MAX_KEPT = 100  #: ids of what a vendor stores, in one answer
MAX_TOKENS = 10**9

_NOTHING = timedelta(0)


def is_count(tokens: object) -> bool:
    """Tell whether it is a number of tokens, or None."""
    return tokens is None or (type(tokens) is int and 0 <= tokens <= MAX_TOKENS)


def is_plain(name: object, *, most: int) -> bool:
    """Tell whether it is a plain str that any store can keep."""
    return type(name) is str and len(name) <= most and name.isprintable()


def time_until(moment: datetime) -> timedelta | None:
    """Return how far ahead it is, on this machine's clock; None where nobody can tell."""
    try:
        return max(moment - datetime.now(UTC), _NOTHING)
    except BaseException:  # noqa: BLE001
        return None  # it has no time zone, or is a class of somebody's


def usage_of(usage: object) -> Usage:
    """Return what is sound of a usage; what is not counts as unknown."""
    if type(usage) is Usage and is_sound(usage):
        return usage  # nearly always: making it anew takes ten times as long
    if not is_a(usage, Usage):
        usage = None
    return Usage(**{name: judge(field(usage, name)) for name, judge in _COUNTED.items()})


def is_sound(usage: Usage) -> bool:
    """Tell whether nothing is wrong with a usage of exactly this type.

    Field by field: a loop over their names takes four times as long, twice in a turn.
    """
    try:
        return (
            is_count(usage.input_tokens)
            and is_count(usage.output_tokens)
            and is_count(usage.cached_tokens)
            and is_count(usage.cache_write_tokens)
            and is_count(usage.cache_write_1h_tokens)
            and is_count(usage.reasoning_tokens)
            and is_count(usage.audio_tokens)
            and is_count(usage.audio_output_tokens)
            and is_count(usage.searches)
            and is_count(usage.file_searches)
            and is_count(usage.containers)
            and type(usage.said) is tuple
            and type(usage.service_tier) is str
            and (not usage.service_tier or CODE.fullmatch(usage.service_tier) is not None)
        )
    except AttributeError:
        return False  # put together by hand: not every field was set


def _count(tokens: object) -> int | None:
    return tokens if type(tokens) is int and 0 <= tokens <= MAX_TOKENS else None


def code_in(value: Any) -> str:
    """Return a word that may stand in logs and labels, or ""."""
    return str.__str__(value) if is_a(value, str) and CODE.fullmatch(value) else ""


def _said(value: Any) -> tuple[Any, ...]:
    return value if type(value) is tuple else ()  # what it holds is looked at where it is kept


#: What is known of a call's usage: counts, what counts them, and what the vendor says itself.
_COUNTED: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        one.name: _said if one.name == "said" else code_in if one.type is str else _count
        for one in fields(Usage)
    }
)


def name_in(value: Any, *, most: int) -> str:
    """Return a name that any store can keep, or ""."""
    if is_a(value, str) and str.__len__(value) <= most and str.isprintable(value):
        return str.__str__(value)
    return ""


def refs_in(value: Any) -> tuple[str, ...]:
    """Return the names among what is said to be kept; a lone one is one of them."""
    if is_a(value, str):
        value = (value,)
    try:
        names = [name_in(one, most=MAX_REF) for one in islice(value, MAX_KEPT)]
    except BaseException:  # noqa: BLE001
        return ()
    return tuple(filter(None, names))


def words_in(value: Any) -> str:
    """Return a vendor's own words, or "". They may quote the user."""
    return str.__str__(value)[:MAX_DETAIL] if is_a(value, str) else ""


def span_in(value: Any, *, most: timedelta) -> timedelta | None:
    """Return a time from 0 to `most`, or None where it is none."""
    if not is_a(value, timedelta):
        return None
    span = timedelta(
        days=timedelta.days.__get__(value),
        seconds=timedelta.seconds.__get__(value),
        microseconds=timedelta.microseconds.__get__(value),
    )
    return min(span, most) if span >= _NOTHING else None
