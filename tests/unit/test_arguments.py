"""Numbers, times and documents of callers: within bounds they come through, beyond they do not."""

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any

import pytest

from turnmill.domain import bounds
from turnmill.domain.analytics.experiments import share_given
from turnmill.domain.arguments import moment, page_size, span, wait_seconds, whole
from turnmill.domain.budgets import dollars, warnings_given
from turnmill.domain.errors import InvalidInput, InvalidText
from turnmill.domain.json_values import Unreadable, json_object, lenient_json, nesting
from turnmill.domain.templates import values_for
from turnmill.verbs.analytics.usage import share_of
from turnmill.verbs.feedback import score_of
from turnmill.verbs.intake import pairs


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


class Colour(StrEnum):
    RED = "red"


class Size(IntEnum):
    LARGE = 3


@pytest.mark.parametrize(
    "value",
    [
        {"path": "C:\\u0000x"},
        {"\\u0000": "\\\\u0000"},
        {"a": deep(bounds.JSON_DEPTH - 1)},
        {"a": 2**64 - 1, "b": -(2**63), "c": 0.1, "d": True, "e": None, "f": -0.0, "g": 5e-324},
        {"colour": Colour.RED, "size": Size.LARGE, "é": "😀"},
    ],
    ids=["escape as text", "escape as key", "deepest", "numbers", "subclasses"],
)
def test_a_document_comes_through_equal_and_of_plain_types(value: dict[str, Any]) -> None:
    found = json_object(value, name="metadata")
    assert found == value == json.loads(json.dumps(found))
    assert {type(one) for one in found.values()} <= {str, int, float, bool, type(None), list}


@pytest.mark.parametrize("value", [{"a": -0.0}, {"a": [{"b": -0.0}]}])
def test_a_zero_has_no_sign_whichever_store_it_is_kept_in(value: dict[str, Any]) -> None:
    assert "-" not in json.dumps(json_object(value, name="metadata"))


@pytest.mark.parametrize("number", [2.0**53, 2.0**60, -(2.0**63)])
def test_a_large_float_is_kept_as_the_whole_number_that_it_is(number: float) -> None:
    [found] = json_object({"a": number}, name="metadata").values()
    assert type(found) is int and found == number


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": deep(bounds.JSON_DEPTH)}, "nested deeper than 32"),
        ({"a": deep(988)}, "nested deeper than 32"),
        ({"a": deep(100_000)}, "nested deeper than 32"),
        ({"a": 10**5000}, "more than 64 bits"),
        ({"a": 1e300}, "more than 64 bits"),
        ({"a": float("nan")}, "not finite"),
        ({"a": b"x"}, "holds a bytes"),
        ({1: "a"}, "a key that is a int"),
        ({"a": "x" * 100_001}, "larger than 100000 bytes"),
        ({str(n): [] for n in range(100_000)}, "larger than 100000 bytes"),
        ([], "must be a mapping, not list"),
    ],
    ids=lambda value: None if isinstance(value, dict | list) else str(value),
)
def test_a_document_beyond_a_bound_is_refused_by_name_and_bound(value: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=f"metadata.*{says}") as caught:
        json_object(value, name="metadata")
    assert caught.value.hint


@pytest.mark.parametrize("value", [{"a": "\0"}, {"\0": 1}, {"a": ["\ud800"]}, {"\udfff": 1}])
def test_a_nul_or_lone_surrogate_is_refused_wherever_it_stands(value: Any) -> None:
    with pytest.raises(InvalidText, match="settings holds"):
        json_object(value, name="settings")


def test_an_instant_keeps_its_place_in_time_whatever_zone_it_was_given_in() -> None:
    given = datetime(2030, 1, 1, 12, tzinfo=timezone(timedelta(hours=-12)))
    found = moment(given, name="expires")
    assert (found, found and found.tzinfo) == (given, UTC)


@pytest.mark.parametrize(
    "value",
    [
        datetime(9999, 12, 31, 23, 59, tzinfo=timezone(-timedelta(hours=12))),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
        bounds.LATEST,
        bounds.EARLIEST - timedelta(microseconds=1),
        datetime(2030, 1, 1),  # noqa: DTZ001
        datetime(2030, 1, 1).date(),  # noqa: DTZ001
        "2030-01-01",
        1_900_000_000,
    ],
    ids=str,
)
def test_an_instant_that_some_reader_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="expires must be") as caught:
        moment(value, name="expires")
    assert caught.value.hint


@pytest.mark.parametrize("value", [0, -1, 10**12, True, "5", 5.0, None, float("nan")])
@pytest.mark.parametrize(
    "check", [page_size, lambda value: whole(value, name="limit", most=10_000)]
)
def test_a_number_of_rows_that_makes_no_sense_is_refused(
    check: Callable[[Any], int], value: Any
) -> None:
    with pytest.raises(InvalidInput, match="limit must be a whole number from 1 to 10000"):
        check(value)


@pytest.mark.parametrize(
    "value", [-1, -0.001, float("nan"), float("inf"), 10**400, True, "5", timedelta.max, b""]
)
def test_a_time_to_wait_that_makes_no_sense_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="timeout must be from 0 to") as caught:
        wait_seconds(value)
    assert caught.value.hint


def test_a_time_to_wait_is_taken_as_seconds_or_timedelta_or_left_open() -> None:
    assert [wait_seconds(one) for one in (None, 0, 1.5, timedelta(minutes=1))] == [None, 0, 1.5, 60]


@pytest.mark.parametrize(
    "value",
    [timedelta.max, timedelta(0), timedelta(-1), timedelta(seconds=1.5), timedelta(36_501), 60],
)
def test_an_idle_time_that_cannot_be_kept_as_it_is_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="idle_ttl"):
        span(value, name="idle_ttl", least=bounds.SHORTEST_IDLE, most=bounds.LONGEST_IDLE)


def test_messages_without_an_end_are_refused_before_anything_is_written() -> None:
    def endless() -> Any:
        while True:
            yield "session", "text"

    with pytest.raises(InvalidInput, match="more than 100000"):
        pairs(endless())


def test_an_iterable_that_fails_half_way_fails_as_its_owner_made_it() -> None:
    def failing() -> Any:
        yield "session", "text"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pairs(failing())


@pytest.mark.parametrize("value", [None, 5, "ab", b"ab", ["text"], [("s", "t", "x")], [{"a": 1}]])
def test_what_is_no_pair_of_session_and_text_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="message"):
        pairs(value)


@pytest.mark.parametrize(
    ("document", "depth"),
    [
        ({}, 1),
        ([[[]]], 3),
        ({"a": [{}, [[1]]]}, 4),
        ({'"[': '\\"[[[['}, 1),
        ("[[[", 0),
        ("\\\\", 0),
        (deep(900), 900),
    ],
    ids=lambda value: str(value)[:20],
)
def test_the_nesting_of_a_document_is_counted_without_reading_it(document: Any, depth: int) -> None:
    assert nesting(json.dumps(document)) == depth


def test_a_document_of_a_store_is_read_or_known_to_be_unreadable() -> None:
    wide = json.dumps([{"a": [n]} for n in range(1000)])
    assert lenient_json(wide) == json.loads(wide)
    assert lenient_json(b'{"a": "\xc3\xa9"}') == {"a": "é"}
    for odd in ("", "{", "[" * 300 + "]" * 300, "[" * 99_999, b"\xff", "1" * 5000):
        assert isinstance(lenient_json(odd), Unreadable)


class Untrue(int):
    """A whole number that says another one than it is, and is compared with none."""

    def __str__(self) -> str:
        return "100"

    __repr__ = __str__

    def __lt__(self, other: object) -> bool:
        raise RuntimeError("not for you")

    __le__ = __gt__ = __ge__ = __eq__ = __lt__
    __hash__ = int.__hash__


class Half(float):
    """A number that is written as those of numpy are."""

    def __repr__(self) -> str:
        return f"np.float64({float(self)})"

    __str__ = __repr__


class Longer(timedelta):
    """A span that tells nobody how long it is."""

    def total_seconds(self) -> float:
        raise RuntimeError("not for you")


class Grade(IntEnum):
    ONE = 1


@pytest.mark.parametrize(("number", "is_"), [(Untrue(1), 1), (Half(0.5), 0.5), (Grade.ONE, 1)])
def test_a_number_of_a_subclass_is_what_it_holds_and_not_what_it_says(
    number: Any, is_: float
) -> None:
    assert wait_seconds(number) == is_
    assert dollars(number, name="limit_usd") == Decimal(str(is_))
    assert warnings_given([number]) == (is_,)
    assert score_of(number, name="score") == is_
    assert share_of(number) == Decimal(str(is_))
    assert values_for({"a": number}, {"a": None}) == {"a": repr(is_)}
    if is_ < 1:
        assert share_given(number) == is_
    else:
        assert whole(number, name="limit", most=5) == is_


def test_a_span_of_a_subclass_is_kept_as_a_plain_one() -> None:
    ends = {"least": bounds.SHORTEST_IDLE, "most": bounds.LONGEST_IDLE}
    found = span(Longer(days=2), name="idle_ttl", **ends)
    assert (type(found), found) == (timedelta, timedelta(days=2))


@pytest.mark.parametrize("value", [True, Decimal("NaN"), Decimal("sNaN"), math.nan, 10**400, "1"])
def test_what_is_no_share_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="warn_at"):
        warnings_given([value])
    with pytest.raises(InvalidInput, match="tolerance"):
        share_of(value)
