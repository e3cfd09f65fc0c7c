"""A reply is held to its schema in bounded time, whatever the two say; JSON is JSON."""

import json
import time
from datetime import timedelta
from typing import Any

import pytest

from turnmill_worker.providers.mock.form import fitting
from turnmill_worker.tools.calling import _in_words
from turnmill_worker.tools.form import fault_of, misfits
from turnmill_worker.tools.schemas import SchemaRefused, require_usable

#: `re` looks for this in a few characters until the end of days, and no other thread runs.
FOR_EVER, TEXT = "^(a+)+$", "a" * 64 + "!"


def one(**schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": schema}}


def told(value: object, schema: dict[str, Any]) -> str:
    return misfits(json.dumps(value), schema)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (one(type="string", pattern=FOR_EVER), {"a": TEXT}),
        ({"type": "object", "propertyNames": {"pattern": FOR_EVER}}, {TEXT: 1}),
        (
            {"type": "object", "patternProperties": {FOR_EVER: {}}, "additionalProperties": False},
            {TEXT: 1},
        ),
        (one(items={"pattern": FOR_EVER}, minItems=9), {"a": [TEXT]}),
    ],
)
def test_no_pattern_takes_for_ever(schema: dict[str, Any], value: object) -> None:
    began = time.process_time()
    assert told(value, schema)
    assert time.process_time() - began < 5


def test_a_schema_that_branches_without_end_is_given_up() -> None:
    ways = {
        f"n{at}": {"anyOf": [{"$ref": f"#/$defs/n{at + 1}"}, {"$ref": f"#/$defs/n{at + 1}"}]}
        for at in range(60)
    }
    schema = one(**{"$ref": "#/$defs/n0"}) | {"$defs": ways | {"n60": {"type": "string"}}}
    with pytest.raises(SchemaRefused):
        misfits('{"a": 1}', schema, within=timedelta(seconds=0.05))


@pytest.mark.parametrize(
    "schema",
    [
        one(pattern="("),
        one(pattern="(?=a)"),
        one(multipleOf=0),
        one(**{"$ref": "#/nowhere"}),
        one(**{"$ref": "https://example.com/schema"}),
        one(**{"$schema": "http://json-schema.org/draft-07/schema#", "pattern": FOR_EVER}),
        {"type": "object", "$ref": "#"},
        {"type": "object", "patternProperties": {"a": {}}, "unevaluatedProperties": False},
    ],
    ids=str,
)
def test_what_is_no_schema_or_cannot_be_bounded_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(SchemaRefused):
        told({"a": "text"}, schema)


@pytest.mark.parametrize(
    "schema",
    [
        one(type="nonsense"),
        one(pattern="("),
        one(items={"anyOf": [{"pattern": "(?=a)"}]}),
        {"type": "object", "patternProperties": {"(a)\\1": {}}},
        {"type": "object", "$defs": {"pattern": {"pattern": "(?!a)"}}},
        one(**{"$ref": "https://example.com/schema"}),
        {"type": "object", "patternProperties": {"a": {}}, "unevaluatedProperties": False},
    ],
    ids=str,
)
def test_that_nothing_can_be_held_to_a_schema_is_known_before_there_is_a_reply(
    schema: dict[str, Any],
) -> None:
    with pytest.raises(SchemaRefused):
        require_usable(schema)


@pytest.mark.parametrize(
    "schema",
    [
        one(type="string", pattern=FOR_EVER),
        one(enum=[{"pattern": "("}, "("], default={"pattern": "("}),
        {"type": "object", "properties": {"pattern": {"type": "string"}, "$ref": {}}},
        one(**{"$ref": "#/$defs/b"}) | {"$defs": {"b": {"$id": "urn:b", "type": "string"}}},
        one(**{"$ref": "urn:b"}) | {"$defs": {"b": {"$id": "urn:b", "type": "string"}}},
        {},
    ],
    ids=str,
)
def test_what_a_reply_can_be_held_to_is_not_refused_before(schema: dict[str, Any]) -> None:
    require_usable(schema)
    told({"a": "text"}, schema)


@pytest.mark.parametrize(
    ("schema", "fits", "does_not"),
    [
        (one(pattern="^[a-z]+$"), {"a": "yes"}, {"a": "No"}),
        (one(uniqueItems=True), {"a": [1, True, [1], [True], "1"]}, {"a": [1, 1.0]}),
        (one(uniqueItems=True), {"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": [1]}, {"b": [1]}]}),
        (
            {"type": "object", "patternProperties": {"^n": {"type": "integer"}}},
            {"n1": 1, "x": ""},
            {"n1": ""},
        ),
        (
            one(type="string") | {"additionalProperties": {"type": "integer"}},
            {"a": "", "b": 1},
            {"b": ""},
        ),
        (
            one() | {"patternProperties": {"^n": {}}, "additionalProperties": False},
            {"a": 1, "n": 1},
            {"other": 1},
        ),
        (one(multipleOf=0.5), {"a": 1.5}, {"a": 10**400}),
        ({"type": "object", "properties": {"$schema": {"type": "null"}}}, {}, {"$schema": ""}),
    ],
    ids=str,
)
def test_keywords_of_ours_say_what_the_specification_says(
    schema: dict[str, Any], fits: object, does_not: object
) -> None:
    assert told(fits, schema) == ""
    assert told(does_not, schema)


@pytest.mark.parametrize(
    "schema", [one(minLength=10**12), one(type="array", minItems=10**12)], ids=str
)
def test_the_mock_makes_up_no_more_than_a_reply_may_hold(schema: dict[str, Any]) -> None:
    assert misfits(fitting(schema | {"required": ["a"]}, "Hello"), schema)


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": -Infinity}', "", "[" * 100_000, "9" * 9_999])
def test_what_only_python_reads_is_no_json(text: str) -> None:
    assert "no JSON" in misfits(text, one(multipleOf=0.1))


def test_what_a_tool_gives_is_json_where_it_is_no_text() -> None:
    told = _in_words({"low": float("-inf"), "mean": float("nan"), "days": (1, 2)})
    assert told is not None
    assert json.loads(told, parse_constant=pytest.fail) == {
        "low": "-Infinity",
        "mean": "NaN",
        "days": [1, 2],
    }


@pytest.mark.parametrize(
    ("said", "ended", "code"),
    [
        ('{"a": 1}', "stop", ""),
        ('{"a": 1}', "length", ""),
        ('{"a": "1"}', "stop", "output_invalid"),
        ('{"a": "1"}', None, "output_invalid"),
        ('{"a', "length", "reply_cut_off"),
        ('{"a', "context_full", "reply_cut_off"),
        ("I would rather not.", "refusal", "reply_refused"),
        ("", "content_filter", "reply_refused"),
    ],
)
def test_a_reply_without_its_form_is_told_by_how_it_has_ended(
    said: str, ended: str | None, code: str
) -> None:
    assert fault_of(said, ended, one(type="integer")) == code
    assert fault_of("{}", ended, {"type": "nonsense"}) == "setting_refused"
