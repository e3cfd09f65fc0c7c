"""What is lazy in a tool's output is made up to a bound."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, repeat
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field
from pydantic import dataclasses as pydantic_dataclasses
from pydantic_core import to_json

from turnmill import ToolError, tool
from turnmill.domain.states import ToolCallState
from turnmill_worker.threads import Threads
from turnmill_worker.tools import calling
from turnmill_worker.tools.making import Making, TooLong, is_at_hand


@dataclass
class Row:
    """What a tool may return."""

    cells: Any


class Found(BaseModel):
    """A model whose rows come one by one."""

    model_config = ConfigDict(frozen=True, extra="allow")

    rows: Iterable[Any]
    beside: Any = None


@pydantic_dataclasses.dataclass(slots=True)
class FoundRow:
    """The same as a dataclass."""

    rows: Iterable[Any]


def without_end() -> Iterator[int]:
    yield from count()


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


@pytest.mark.parametrize(
    "output",
    [
        lambda: Found(rows=without_end()),
        lambda: FoundRow(rows=without_end()),
        lambda: [{"a": Found(rows=[Found(rows=repeat("x"))])}],
        lambda: Found(rows=[], beside=({"a": [without_end()]},)),
        lambda: Found.model_validate({"rows": [], "more": without_end()}),
        lambda: Found(rows=({"cells": ["x" * 100_000]} for _ in count())),
        lambda: Row(cells=Found(rows=(Found(rows=[n]) for n in count()))),
        lambda: iter([Found(rows=without_end())]),
    ],
)
def test_a_model_writes_no_more_of_its_rows_than_an_output_may_hold(
    output: Callable[[], Any],
) -> None:
    outcome = calling._done(output())
    assert (outcome.state, outcome.error_code) == (ToolCallState.FAILED, "output_too_large")


def test_a_model_whose_rows_come_one_by_one_is_written_as_without_a_bound() -> None:
    def output() -> Any:
        inner = (Found(rows=(m for m in range(n)), beside=Row(cells=n)) for n in range(3))
        row = FoundRow(rows=iter([1.5, {"a": (1, 2)}]))
        more = (n for n in range(2))
        return Found.model_validate({"rows": inner, "beside": [(row,)], "more": more})

    assert calling._done(output()).output == to_json(output()).decode()


def test_each_of_many_models_that_are_made_and_gone_is_written_as_it_is() -> None:
    output = (Found(rows=(m for m in [n])) for n in range(100))
    found = json.loads(calling._done([output]).output)
    assert [one["rows"] for one in found[0]] == [[n] for n in range(100)]


def test_a_model_without_anything_lazy_is_left_as_it_is() -> None:
    plain = Found.model_construct(rows=[1], beside=[Row(cells=(1, {"a"}))])
    assert Making(most=100).made(plain) is plain


def test_what_a_model_keeps_to_itself_counts_for_nothing() -> None:
    class Kept(BaseModel):
        shown: int
        hidden: list[str] = Field(exclude=True)

    kept = Kept(shown=1, hidden=["x" * 1000] * 2000)
    assert calling._done(kept).output == '{"shown":1}'


def test_a_model_that_holds_itself_is_no_output() -> None:
    found = Found(rows=[], beside=[])
    found.beside.append(found)
    assert calling._done(found).error_code == "output_unreadable"


def declines() -> Iterator[int]:
    yield 1
    raise ToolError("the card was declined")


def breaks() -> Iterator[int]:
    yield 1
    raise ValueError("secret-7d1")


@pytest.mark.parametrize("within", [lambda made: made, lambda made: [Found(rows=made)]])
@pytest.mark.parametrize(
    ("making", "code", "words"),
    [
        (declines, "tool_error", "the card was declined"),
        (breaks, "raised:ValueError", "The tool failed: ValueError."),
    ],
)
@pytest.mark.anyio
async def test_what_a_tool_raises_while_its_output_is_made_is_told_as_if_it_had_at_once(
    within: Callable[[Any], Any], making: Callable[[], Iterator[int]], code: str, words: str
) -> None:
    @tool
    def late() -> Any:
        """Return what is not made yet."""
        return within(making())

    @tool
    async def later() -> Any:
        """Return the same."""
        return within(making())

    threads = Threads(2, name="tool")
    await threads.take()
    for one in (late, later):
        outcome = await calling.run(one, {}, threads)
        assert (outcome.error_code, outcome.output) == (code, words)
