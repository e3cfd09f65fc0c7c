"""Values that nobody expects of callers."""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from tests.integration.hostile_kinds import ENDLESS, FAILING
from tests.integration.odd_inputs import _EAST, _WEST


class Loud(str):
    """A str that says something else than it holds."""

    __slots__ = ()

    def __str__(self) -> str:
        return "\0"

    def encode(self, *_: Any) -> bytes:
        raise RuntimeError("not for you")


class Treacherous(Mapping[str, Any]):
    """A mapping that fails half-way."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError("not for you")

    def __iter__(self) -> Iterator[str]:
        return (key or self[key] for key in ("a", ""))

    def __len__(self) -> int:
        return 2


class Nameless:
    """Something whose id cannot be asked for."""

    @property
    def id(self) -> UUID:
        raise RuntimeError("not for you")


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def circle() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["again"] = [value]
    return value


_WORDS = (
    *("", " ", "\n", "\0", "a\0b", "\ud800", "a\u200bb", "x" * 201, "é" * 200, "😀" * 200),
    *("m" * 1_000_000, "mock", "interactive", "bulk", "quarantine", "pause", "retry", "active"),
    *("\\u0000", "C:\\u0000x", str(UUID(int=7)), "{urn:uuid:}", "5", "nan", Loud("ada"), "../.."),
)


_NUMBERS = (
    *(0, 1, -1, 5, 100, 101, 10_000, 10_001, 2**31, 2**53 + 1, 2**63, 2**64, 10**12, 10**5000),
    *(0.0, -0.0, 0.5, 1e-9, 1e23, 1e300, 5e-324, float("nan"), float("inf"), -float("inf")),
    *(True, False, Decimal("1.5"), Decimal("NaN")),
)


_TIMES = (
    *(datetime.max, datetime.min, datetime(2030, 1, 1), date(2030, 1, 1)),  # noqa: DTZ001, DTZ901
    *(datetime.max.replace(tzinfo=zone) for zone in (UTC, _WEST, _EAST)),
    *(datetime.min.replace(tzinfo=zone) for zone in (UTC, _WEST, _EAST)),
    *(datetime(year, 6, 1, 12, 30, 1, 7, tzinfo=_EAST) for year in (1969, 1970, 2030, 8999, 9000)),
    *(timedelta.max, timedelta.min, timedelta(0), timedelta(days=-1), timedelta(microseconds=1)),
    *(timedelta(seconds=1.5), *map(timedelta, (30, 36_500, 36_501))),
)


_OBJECTS = (
    *({}, {"a": 1}, {"path": "C:\\u0000x"}, {"\0": 1}, {"a": "\0"}, {1: 2}, {None: 1}, {"a": {1}}),
    *({"a": nested(31)}, {"a": nested(32)}, {"a": nested(988)}, {"a": nested(20_000)}, circle()),
    *({"a": 10**5000}, {"a": 2**64 - 1}, {"a": 2**65}, {"a": 1e23}, {"a": 2.0**60}, {"a": -0.0}),
    *({"a": float("nan")}, {"a": b"x"}, {"a": Decimal(1)}, {"a": "\ud800"}, {"\ud800": 1}),
    *({"a": "x" * 100_001}, {str(n): n for n in range(20_000)}, {"a": Loud("b")}, {Loud("a"): 1}),
    *({"timeout": value} for value in (1e-9, 0, -1, 0.01, 30, 1e9, True, "soon", float("inf"))),
    *({"thread": value} for value in ("chain", "client", "none", 1, ["chain"])),
    *({"api": "chat"}, {"api": 5}, {"temperature": 0.7, "tools": [{"a": None}]}),
    *(Treacherous(), Nameless()),
)


_PLAIN: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(max_size=5)
)


#: Each of which broke something once, or stands beside one that did.
KNOWN = (
    *(*_WORDS, *_NUMBERS, *_TIMES, *_OBJECTS, None, b"x", [], (), object()),
    *(*FAILING, *ENDLESS),
)


VALUES: st.SearchStrategy[Any] = st.one_of(
    st.integers(0, len(KNOWN) - 1).map(lambda n: KNOWN[n]),  # or hypothesis writes 10**5000 out
    _PLAIN,
    st.datetimes(timezones=st.none() | st.sampled_from((UTC, _WEST, _EAST))),
    st.timedeltas(),
    st.uuids(),
    st.recursive(
        _PLAIN,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    ),
)
