"""What callers' own kinds hold is read without asking them; and none of it is read without end."""

from collections.abc import Callable
from datetime import date, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest

from tests.integration.hostile_kinds import ENDLESS, FAILING
from turnmill.domain.plain import day_of, fields_of, id_of, items_of, span_of, text_of

OF_KIND: dict[type, Callable[[Any], Any]] = {
    str: text_of,
    UUID: id_of,
    timedelta: span_of,
    date: day_of,
    list: lambda value: items_of(value, most=5),
    dict: lambda value: fields_of(value, most=5),
}


@pytest.mark.parametrize(
    "value", [one for one in FAILING if type(one).__name__.startswith("Failing")], ids=repr
)
def test_what_a_failing_kind_holds_is_read_all_the_same(value: Any) -> None:
    for kind, read in OF_KIND.items():
        if isinstance(value, kind):
            assert type(read(value)) is kind


@pytest.mark.parametrize("value", ENDLESS, ids=lambda one: type(one).__name__)
def test_what_never_ends_is_read_up_to_a_bound(value: Any) -> None:
    found = items_of(value, most=5)
    assert found is not None
    assert 1 <= len(found) <= 6


def test_one_more_than_the_most_is_read_so_that_too_many_are_noticed() -> None:
    assert items_of(count(), most=2) == [0, 1, 2]
    assert items_of([0, 1, 2, 3], most=2) == [0, 1, 2]
    assert items_of((0, 1), most=2) == [0, 1]
    assert fields_of(dict.fromkeys("abcd"), most=2) == dict.fromkeys("abc")


def test_what_holds_nothing_is_told_from_what_is_empty() -> None:
    assert items_of((), most=2) == []
    assert items_of(5, most=2) is None
    assert text_of(b"x") is None
