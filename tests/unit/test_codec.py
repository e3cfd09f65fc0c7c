"""Content is written and read in one place: what goes in comes out, and nothing goes missing."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import contents
from turnmill.domain.content import KINDS, Message, Part, Sender, Text, ToolCall
from turnmill.domain.errors import Rejected
from turnmill.store.codec import (
    StoredHistory,
    content_hash,
    content_of,
    exported,
    parts_from,
    shown_parts,
)
from turnmill.store.readable import ODD


@given(st.lists(contents.messages, max_size=5))
def test_every_message_comes_back_as_it_was_stored(said: list[Message]) -> None:
    rows = [(one.role, content_of(one.parts)) for one in said]
    assert StoredHistory.of_rows(rows) == said
    again = json.loads(json.dumps(rows))
    assert [Message(role, parts_from(content)) for role, content in again] == said


def test_there_is_a_sample_of_every_kind() -> None:
    assert {one.kind for one in contents.EACH} == set(KINDS) - {Sender.kind}


def test_who_says_something_comes_back_and_counts_in_the_hash() -> None:
    parts: tuple[Part, ...] = (Sender("bob"), Text("hello"))
    assert parts_from(json.loads(json.dumps(content_of(parts)))) == parts
    others = [(Sender("ada"), Text("hello")), (Text("hello"),), (Text("bob"), Text("hello"))]
    hashes = {content_hash([Message("user", one)]) for one in (parts, *others)}
    assert len(hashes) == 4


def test_a_plain_text_is_stored_as_it_always_was() -> None:
    stored = r'[{"type": "text", "text": "Gr\u00fc\u00dfe"}]'
    assert json.dumps(content_of([Text("Grüße")])) == stored
    assert parts_from(json.loads(stored)) == (Text("Grüße"),)


def test_what_is_not_said_of_a_part_is_not_stored() -> None:
    call = ToolCall(id="1", name="now", arguments="")
    assert content_of([call]) == [{"type": "tool_call", "id": "1", "name": "now", "arguments": ""}]


def test_the_json_of_a_native_item_comes_back_to_the_letter() -> None:
    (stored,) = content_of([contents.EACH[-1]])
    (found,) = parts_from(json.loads(json.dumps([stored])))
    assert found == contents.EACH[-1]
    assert json.loads(json.dumps(stored))["item"] == '{"type": "reasoning", "n": 1.50}'


#: What a newer version, or nobody, has written.
ODD_PARTS: list[Any] = [
    {"type": "hologram", "text": "hello"},
    {"type": "text", "text": "hello", "language": "en"},
    {"type": "image", "url": "https://example.org/a.png", "zoom": "high"},
    {"type": "text", "text": 5},
    {"type": "text", "text": None},
    {"type": "text"},
    {"type": "tool_output", "call_id": "1", "output": "x", "is_error": 1},
    {"type": ["text"], "text": "hello"},
    {"text": "hello"},
    {},
    "hello",
    None,
    7,
    [],
]


@pytest.mark.parametrize("odd", ODD_PARTS, ids=str)
def test_a_part_that_nobody_here_understands_is_an_error_and_never_left_out(odd: Any) -> None:
    content = [{"type": "text", "text": "one"}, odd]
    with pytest.raises(ODD):
        parts_from(content)
    history = StoredHistory(json.dumps([["user", content]]))
    with pytest.raises(Rejected) as caught:
        list(history)
    assert (caught.value.error_code, str(caught.value)) == ("unreadable_row", "unreadable_row")


@pytest.mark.parametrize("odd", ODD_PARTS, ids=str)
def test_a_listing_marks_a_part_that_cannot_be_read_and_shows_the_others(odd: Any) -> None:
    content = [{"type": "text", "text": "one"}, odd, {"type": "text", "text": "two"}]
    assert shown_parts(content) == (Text("one"), Text("\ufffd"), Text("two"))


@pytest.mark.parametrize("odd", [None, {}, {"text": "hello"}, "hello", 7], ids=str)
def test_content_that_is_no_list_is_marked_as_a_whole(odd: Any) -> None:
    assert shown_parts(odd) == (Text("\ufffd"),)


def test_a_key_that_is_in_flight_stands_for_the_same_text_after_an_upgrade() -> None:
    text = "What is the capital of France? Grüße"
    digest = "bdc7340cf9610c4b8a3e49971517c59b8e20215383cb221d4c839d4d21d6de95"
    assert content_hash([Message.of("user", text)]).hex() == digest


def test_the_hash_of_parts_is_the_same_tomorrow() -> None:
    digest = "df3991909c7ed5137191287f0de6db86ffacb544634d48a5b1d237389bd47ae5"
    assert content_hash([Message("user", contents.EACH)]).hex() == digest


@given(st.lists(contents.messages, max_size=3), st.lists(contents.messages, max_size=3))
def test_what_is_another_content_has_another_hash(one: list[Message], other: list[Message]) -> None:
    assert (content_hash(one) == content_hash(other)) == (one == other)


@pytest.mark.parametrize("dropped", range(len(contents.EACH)))
def test_every_part_counts_in_the_hash(dropped: int) -> None:
    fewer = [part for n, part in enumerate(contents.EACH) if n != dropped]
    whole = content_hash([Message("user", contents.EACH)])
    assert content_hash([Message("user", fewer)]) != whole


def test_no_text_has_the_hash_of_something_else() -> None:
    parts: list[Part] = [Text("a"), Text("b")]
    canonical = json.dumps([["user", content_of(parts)]], sort_keys=True, separators=(",", ":"))
    pieces = {content_hash([Message("user", parts)]), content_hash([Message.of("user", "ab")])}
    assert len(pieces | {content_hash([Message.of("user", canonical)])}) == 3


def test_an_export_of_a_text_is_its_text_and_of_anything_else_all_of_it() -> None:
    assert exported([Text("one "), Text("two")]) == {"text": "one two"}
    whole = exported(contents.EACH)
    assert whole["text"] == "Look at this:"
    assert parts_from(whole["parts"]) == contents.EACH
