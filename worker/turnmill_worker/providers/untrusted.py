"""Values out of a vendor's JSON: each of the type that it should have, or as if it were absent."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from turnmill.domain.checks import storable

#: Of an id, a model's name or a tier. The vendors' longest are about 80 characters long.
NAME_MAX = 256
#: Of one call. No model reads or writes as many, and sums of them stay within a bigint.
TOKENS_MAX = 10**9
#: The clocks of vendors, and of our machines, are no further apart.
CLOCKS_APART = timedelta(minutes=10)

_TIER = re.compile(r"[A-Za-z0-9_-]{0,40}")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Unreadable(Exception):
    """The payload does not hold what a reply of this API holds."""


def mapping(value: object) -> Mapping[str, Any]:
    """Return `value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else _NOTHING


def mappings(value: object) -> list[Mapping[str, Any]]:
    """Return the objects of a list; an object that should have been a list of one counts as one."""
    if isinstance(value, dict):
        return [value]
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def text(value: object) -> str:
    """Return `value` as every store takes it if it is a text, else ""."""
    return storable(value) if isinstance(value, str) else ""


def joined(values: Iterable[object]) -> str:
    """Return the texts among `values` as one; raises Unreadable where all are something else."""
    found = list(values)
    texts = [one for one in found if isinstance(one, str)]
    if found and not texts:
        raise Unreadable
    return storable("".join(texts))


def paired(text: str) -> str:
    """Return a text of several pieces in which the halves of a character have met."""
    if text.isascii():
        return text
    return _PAIR.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)


def name(value: object) -> str:
    """Return an id or a name as it is, or "" where none could be stored or sent back."""
    if isinstance(value, str) and len(value) <= NAME_MAX and value.isprintable():
        return value
    return ""


def moment(value: object) -> datetime | None:
    """Return a moment that is told in seconds or in words, or None for what cannot be one."""
    try:
        if isinstance(value, str):
            found = datetime.fromisoformat(value)
            return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None


def tier(value: object) -> str:
    """Return what a vendor names the tier, "" where it names none: that is the standard one."""
    if value is None:
        return ""
    return value if isinstance(value, str) and _TIER.fullmatch(value) else "unknown"


def count(value: object) -> int | None:
    """Return a number of tokens, or None for what cannot be one."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= TOKENS_MAX else None


def count_if_any(value: object) -> int | None:
    """Return a number of tokens that a vendor leaves out where there are none."""
    return 0 if value is None else count(value)


def total(*counts: int | None) -> int | None:
    """Return the sum; None where one of them is unknown."""
    known = [one for one in counts if one is not None]
    return sum(known) if len(known) == len(counts) else None
