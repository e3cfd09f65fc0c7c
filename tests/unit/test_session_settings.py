"""What a session's settings say to Turnmill: tools, rounds, formats, each within its bounds."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pydantic
import pytest

import turnmill
from turnmill.domain.bounds import MOST_TOOL_ROUNDS, MOST_TOOLS, SCHEMA_BYTES
from turnmill.domain.errors import InvalidInput
from turnmill.verbs import intake

OBJECT = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ASK = {"name": "ask_user", "description": "Ask the user.", "parameters": OBJECT}


class City(pydantic.BaseModel):
    name: str
    twins: list["City"] = []


class Weather(pydantic.BaseModel):
    city: City
    degrees: float


class Cities(pydantic.RootModel[list[str]]):
    pass


class Opaque(pydantic.BaseModel):
    made_by: Callable[[], int]


@turnmill.tool
def weather(city: str) -> str:
    """Tell the weather."""
    return city


def settings_of(**options: Any) -> dict[str, Any]:
    """Return the settings of a session that is created with these options."""
    new = intake.new_session(
        user_id="ada", provider="mock", model="mock", key=None, max_text_bytes=1000, **options
    )
    return dict(new.settings)


def test_tools_are_names_decorated_functions_and_tools_of_the_callers_own() -> None:
    tools = [weather, "search", {"name": "charge", "approval": True}, ASK | {"expires": 60}]
    assert settings_of(tools=tools) == {
        "tools": [
            "weather",
            "search",
            {"name": "charge", "approval": True},
            ASK | {"expires": 60.0},
        ]
    }


def test_expiry_is_a_timedelta_or_seconds_as_json_has_it() -> None:
    (tool,) = settings_of(tools=[ASK | {"expires": timedelta(minutes=2)}])["tools"]
    assert tool["expires"] == 120.0


def test_a_tool_of_the_callers_own_may_have_neither_description_nor_arguments() -> None:
    (tool,) = settings_of(tools=[{"name": "now", "parameters": {}}])["tools"]
    assert tool["description"] == ""
    assert tool["parameters"] == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    "tools",
    [
        "weather",
        {"weather": 1},
        7,
        [7],
        [print],
        [City],
        ["weather", "weather"],
        ["weather", {"name": "weather"}],
        ["two words"],
        ["x" * 65],
        [""],
        ["wetter\n"],
        ["größe"],
        [{}],
        [{"name": 5}],
        [{"type": "function", "function": ASK}],
        [{"name": "charge", "approval": "yes"}],
        [{"name": "charge", "description": "Charge a card."}],
        [ASK | {"strict": True}],
        [ASK | {"approval": True}],
        [ASK | {"description": None}],
        [ASK | {"parameters": "city"}],
        [ASK | {"parameters": {"type": "array", "items": {}}}],
        [ASK | {"parameters": {"properties": {}}}],
        [ASK | {"parameters": {"type": "object", "properties": []}}],
        [ASK | {"parameters": {"type": "object", "properties": {"a": "string"}}}],
        [ASK | {"parameters": {"type": "object", "required": "city"}}],
        [ASK | {"parameters": {"type": "object", "description": "x" * SCHEMA_BYTES}}],
        [ASK | {"expires": 0}],
        [ASK | {"expires": -1}],
        [ASK | {"expires": True}],
        [ASK | {"expires": "1h"}],
        [ASK | {"expires": float("nan")}],
        [ASK | {"expires": timedelta(days=400)}],
        [f"tool_{n}" for n in range(MOST_TOOLS + 1)],
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_list_of_tools_is_refused_by_either_way(tools: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        settings_of(tools=tools)
    assert refused.value.hint
    with pytest.raises(InvalidInput):
        settings_of(settings={"tools": tools})


@pytest.mark.parametrize("rounds", [0, -1, MOST_TOOL_ROUNDS + 1, 1.5, True, "16"])
def test_rounds_are_a_whole_number_within_bounds(rounds: Any) -> None:
    assert settings_of(max_tool_rounds=120) == {"max_tool_rounds": 120}
    for given in ({"max_tool_rounds": rounds}, {"settings": {"max_tool_rounds": rounds}}):
        with pytest.raises(InvalidInput, match="max_tool_rounds"):
            settings_of(**given)


@pytest.mark.parametrize("word", ["", "compact", 5, ["error"]])
def test_what_is_done_when_the_context_is_full_is_one_of_three_words(word: Any) -> None:
    for known in ("error", "truncate", "summarise"):
        assert settings_of(on_context_full=known) == {"on_context_full": known}
    for given in ({"on_context_full": word}, {"settings": {"on_context_full": word}}):
        with pytest.raises(InvalidInput, match="on_context_full"):
            settings_of(**given)


def test_a_format_is_a_schema_or_a_model_of_pydantics() -> None:
    assert settings_of(response_format=OBJECT) == {"response_format": OBJECT}
    found = settings_of(response_format=Weather)["response_format"]
    assert found["type"] == "object"
    assert found["required"] == ["city", "degrees"]


def test_a_model_that_holds_itself_has_an_object_at_its_root() -> None:
    found = settings_of(response_format=City)["response_format"]
    assert found["type"] == "object"
    assert found["properties"]["twins"]["items"] == {"$ref": "#/$defs/City"}
    assert "City" in found["$defs"]


@pytest.mark.parametrize(
    "wrong", [int, Cities, Opaque, "json", [], {"type": "array"}, {"type": "json_object"}]
)
def test_a_format_that_is_no_object_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        settings_of(response_format=wrong)
    assert refused.value.hint


def test_what_is_given_twice_is_refused_and_what_is_given_apart_is_joined() -> None:
    with pytest.raises(InvalidInput, match="twice"):
        settings_of(settings={"tools": ["a"]}, tools=["b"])
    found = settings_of(settings={"temperature": 0.5}, tools=["b"], max_tool_rounds=None)
    assert found == {"temperature": 0.5, "tools": ["b"]}


def test_what_is_within_its_own_bound_may_be_too_much_together() -> None:
    large = {"type": "object", "description": "x" * (SCHEMA_BYTES - 100)}
    tools = [{"name": f"t{n}", "parameters": large} for n in range(3)]
    with pytest.raises(InvalidInput, match="larger"):
        settings_of(tools=tools)
