"""What is lazy in a tool's output is made up to a bound."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, repeat
from typing import Any

import pytest

from turnmill_worker.tools.making import Making, TooLong, is_at_hand


@dataclass
class Row:
    """What a tool may return."""

    cells: Any


def of_itself() -> list[Any]:
    return [[["x"] * 100] * 100] * 100


@pytest.mark.parametrize(
    "output",
    [
        count,
        lambda: {"a": [count()]},
        lambda: Row(cells=repeat("x")),
        lambda: iter([repeat(1)]),
        lambda: ["x" * 1000] * 1000,
        of_itself,
    ],
)
def test_what_is_more_than_an_output_may_hold_is_not_read_on(output: Callable[[], Any]) -> None:
    with pytest.raises(TooLong):
        Making(most=10_000).made(output())


def test_what_is_lazy_is_made_wherever_it_stands() -> None:
    given = {"a": (n for n in range(2)), "b": (iter("xy"),), "c": Row(cells=map(str, [1]))}
    assert Making(most=100).made(given) == {"a": [0, 1], "b": [["x", "y"]], "c": {"cells": ["1"]}}


def test_few_plain_values_are_at_hand_and_nothing_else_is() -> None:
    assert is_at_hand({"a": [1, 2.5, None, True, "x", {}]})
    lazy: list[Any] = [count(), {"a": iter([])}, [Row(cells=1)]]
    for output in (*lazy, [0] * 10_000, [[0] * 900, [0] * 900]):
        assert not is_at_hand(output)
