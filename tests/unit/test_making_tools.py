"""A function is made a tool, or is refused by what is wrong with it."""

import functools
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, Field, field_validator

from turnmill import ToolContext, tool
from turnmill.domain.errors import InvalidTool
from turnmill.domain.ids import SessionId, TurnId
from turnmill.new_ids import new_id
from turnmill.tools import BadCall

CONTEXT = ToolContext(
    turn_id=TurnId(new_id()),
    session_id=SessionId(new_id()),
    user_id="ada",
    metadata={},
    attempt=1,
    step=1,
    call_id="c",
    idempotency_key="k",
)


@dataclass
class Holding:
    """What a model could fill in."""

    context: ToolContext


class Own(ToolContext):
    """Somebody's own kind of it."""


def plain(x: int, context: ToolContext) -> None: ...
def optional(x: int, context: ToolContext | None = None) -> None: ...
def told(x: int, context: Annotated[ToolContext, "whose call it is"]) -> None: ...
def both(x: int, context: Annotated[ToolContext | None, "or nobody's"] = None) -> None: ...


@pytest.mark.parametrize("function", [plain, optional, told, both], ids=lambda one: one.__name__)
def test_no_model_is_offered_the_context_however_it_is_annotated(
    function: Callable[..., None],
) -> None:
    made = tool(function)
    assert list(made.parameters["properties"]) == ["x"]
    assert "ToolContext" not in str(made.parameters)
    assert made.arguments('{"x": 1}', CONTEXT) == {"x": 1, "context": CONTEXT}
    with pytest.raises(BadCall):
        made.arguments('{"x": 1, "context": {"user_id": "eve"}}', CONTEXT)


def listed(contexts: list[ToolContext]) -> None: ...
def held(x: Holding) -> None: ...
def mapped(x: Mapping[str, ToolContext | None]) -> None: ...
def either(x: ToolContext | int) -> None: ...
def own(x: Own) -> None: ...
def twice(x: ToolContext, y: ToolContext | None = None) -> None: ...
def field(x: int = Field(ge=0)) -> None: ...
def anything(x: Callable[[], int]) -> None: ...


@pytest.mark.parametrize(
    "function",
    [listed, held, mapped, either, own, twice, field, anything],
    ids=lambda one: one.__name__,
)
def test_what_a_model_cannot_or_must_not_say_is_refused_when_its_worker_starts(
    function: Callable[..., None],
) -> None:
    with pytest.raises(InvalidTool, match=function.__name__):
        tool(function).parameters  # noqa: B018


async def pieces(x: int) -> AsyncIterator[int]:
    yield x


def unsaid(x) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001
def first(x: int, /) -> None: ...


@pytest.mark.parametrize(
    "function",
    [pieces, unsaid, first, functools.partial(plain, x=1), len, Holding, lambda: None],
)
def test_what_is_no_function_that_can_be_called_by_names_is_refused_at_once(function: Any) -> None:
    with pytest.raises(InvalidTool):
        tool(function)


class Slow(BaseModel):
    """A form that looks at what it is given by code of its own."""

    text: str

    @field_validator("text")
    @classmethod
    def _checked(cls, text: str) -> str:
        return text


class Plain(BaseModel):
    """A form that says nothing but types."""

    text: str = Field(max_length=10)
    at: datetime | None = None
    which: list[Literal["a", "b"]] = []


@dataclass
class After:
    """What does something once it is made."""

    text: str

    def __post_init__(self) -> None:
        self.text = self.text.strip()


Checked = Annotated[str, AfterValidator(str.strip)]
Empty = Annotated[list[str], Field(default_factory=list)]
Made = Annotated[After, Field(default_factory=lambda: After("a"))]


@pytest.mark.parametrize(
    ("hint", "runs"),
    [
        (str, False),
        (int | None, False),
        (dict[str, list[float]], False),
        (Literal["a", "b"], False),
        (Plain, False),
        (list[Plain], False),
        (Empty, False),
        (Checked, True),
        (Slow, True),
        (dict[str, Slow], True),
        (After, True),
        (Made, True),
    ],
)
def test_a_tool_knows_whether_code_of_somebody_reads_its_arguments(hint: Any, runs: bool) -> None:
    def look(value: Any) -> str:
        """Look."""
        return str(value)

    look.__annotations__["value"] = hint
    assert tool(look).runs_to_read is runs
