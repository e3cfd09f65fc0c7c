"""Templates: names, the places of variables, and what differs between two versions."""

import pytest

from turnmill.domain.errors import InvalidInput
from turnmill.domain.templates import (
    TemplateRef,
    changes_between,
    declared,
    filled,
    lines_between,
    name_given,
    opening_given,
    ref_given,
    values_for,
)


def test_a_template_is_named_with_or_without_a_version() -> None:
    assert ref_given("support") == TemplateRef("support", None)
    assert ref_given("a.b_c-1@12") == TemplateRef("a.b_c-1", 12)


@pytest.mark.parametrize(
    "ref", ["", "@3", "a@", "a@0", "a@x", "a b", "a@1@2", "-a", "a/../b", "a" * 101, 3, None, "a\n"]
)
def test_what_names_no_template_is_refused(ref: object) -> None:
    with pytest.raises(InvalidInput):
        ref_given(ref)
    with pytest.raises(InvalidInput):
        name_given(ref)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello {name}!", "Hello Ada!"),
        ("{name}{name}", "AdaAda"),
        ("{{name}} is {name}", "{name} is Ada"),
        ('{"a": {"b": 1}}', '{"a": {"b": 1}}'),
        ("{} {0} { name } {na-me}", "{} {0} { name } {na-me}"),
    ],
)
def test_places_are_filled_and_other_braces_are_text(text: str, expected: str) -> None:
    known = declared(None, [text, "{name}"])
    assert filled(text, values_for({"name": "Ada"}, known)) == expected


def test_what_a_value_says_is_not_looked_at() -> None:
    known = declared(None, ["{a} {b}"])
    assert filled("{a} {b}", values_for({"a": "{b}", "b": "{{a}}"}, known)) == "{b} {{a}}"


def test_a_variable_has_a_default_or_has_to_be_given() -> None:
    known = declared({"tone": "kind", "most": 3}, ["{product} {tone} {most}"])
    assert known == {"product": None, "tone": "kind", "most": "3"}
    assert values_for({"product": "Turnmill"}, known)["tone"] == "kind"
    with pytest.raises(InvalidInput, match="needs variables: product"):
        values_for({"tone": "curt"}, known)
    with pytest.raises(InvalidInput, match="no variable prodct") as refused:
        values_for({"prodct": "x"}, known)
    assert "product" in refused.value.hint
    with pytest.raises(InvalidInput, match="no text has a place"):
        declared({"spare": "x"}, ["{product}"])


@pytest.mark.parametrize("value", [True, None, ["x"], {"a": 1}, b"x", 2**70, float("nan")])
def test_a_variable_stands_for_a_text_or_a_number_and_an_error_quotes_none(value: object) -> None:
    with pytest.raises(InvalidInput):
        values_for({"name": value}, {"name": None})
    with pytest.raises(InvalidInput) as refused:
        values_for({"name": "secret-3f9c", "other": "secret-3f9c"}, {"name": None})
    assert "secret-3f9c" not in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize(
    "opening",
    ["hello", [{"role": "system", "content": "x"}], [{"role": "user"}], [["user", "x"]], [1],
     [{"role": "user", "content": 1}], [{"role": "user", "content": "x", "name": "y"}], [{}] * 51],
)  # fmt: skip
def test_what_is_no_opening_is_refused(opening: object) -> None:
    with pytest.raises(InvalidInput):
        opening_given(opening)


BEFORE = {
    "provider": "openai",
    "model": "gpt-5-mini",
    "system_prompt": "You help customers of {product}. Be brief. Never promise a refund.",
    "settings": {
        "temperature": 0.2,
        "tools": ["weather", {"name": "ask_user", "description": "Asks.", "parameters": {}}],
    },
}
AFTER = {
    "provider": "openai",
    "model": "gpt-5",
    "system_prompt": "You help customers of {product}. Be kind. Never promise a refund.",
    "settings": {
        "tools": ["time", "weather", {"name": "ask_user", "description": "Asks!", "parameters": {}}]
    },
    "variables": {"product": None},
}


def test_a_diff_is_read_line_by_line_and_a_long_prompt_sentence_by_sentence() -> None:
    lines = lines_between(BEFORE, AFTER, names=("support@2", "support@3"))
    assert lines == [
        "--- support@2",
        "+++ support@3",
        "@@ -1,11 +1,12 @@",
        ' provider: "openai"',
        '-model: "gpt-5-mini"',
        '+model: "gpt-5"',
        " system_prompt:",
        "   You help customers of {product}.",
        "-  Be brief.",
        "+  Be kind.",
        "   Never promise a refund.",
        "-settings.temperature: 0.2",
        "+variables.product: null",
        '+settings.tools[time]: "time"',
        ' settings.tools[weather]: "weather"',
        '-settings.tools[ask_user].description: "Asks."',
        '+settings.tools[ask_user].description: "Asks!"',
        ' settings.tools[ask_user].name: "ask_user"',
        " settings.tools[ask_user].parameters: {}",
    ]
    assert lines_between(BEFORE, BEFORE, names=("a", "b")) == []


def test_changes_say_where_they_stand_and_repr_quotes_no_prompt() -> None:
    found = {one.path: (one.before, one.after) for one in changes_between(BEFORE, AFTER)}
    assert found.keys() == {
        *("model", "system_prompt", "settings.temperature"),
        *("settings.tools[time]", "settings.tools[ask_user].description"),
    }
    assert found["settings.temperature"] == (0.2, None)
    assert "refund" not in repr(changes_between(BEFORE, AFTER))
