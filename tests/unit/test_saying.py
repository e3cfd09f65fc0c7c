"""What a caller may say: a text, or parts of text; all else is refused at the door, with a hint."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests import contents
from turnmill.domain.bounds import MOST_PARTS
from turnmill.domain.content import Message, Text
from turnmill.domain.errors import InvalidInput, InvalidText, UnsupportedPart
from turnmill.verbs.intake import turn_options
from turnmill.verbs.new_messages import new_turn, parts_of


def said(value: object, *, most: int = 1000) -> Any:
    return parts_of(value, max_text_bytes=most)


class Word(str):
    """A text that reads as something else."""

    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class Endless(list[Text]):
    def __iter__(self) -> Iterator[Text]:
        while True:
            yield Text("again")


class Broken(list[Text]):
    def __iter__(self) -> Iterator[Text]:
        raise RuntimeError("what the user said")


def test_a_text_is_one_part() -> None:
    assert said("Hello") == said(Text("Hello")) == said([Text("Hello")]) == (Text("Hello"),)
    assert said((Text("Hel"), Text("lo"))) == (Text("Hel"), Text("lo"))
    assert said(Text(Word("Hello"))) == (Text("Hello"),)
    assert type(said(Text(Word("Hello")))[0].text) is str


def test_a_turn_carries_what_was_said_as_the_users_message() -> None:
    new = new_turn([Text("Hel"), Text("lo")], turn_options(), max_text_bytes=100)
    assert new.messages == (Message("user", (Text("Hel"), Text("lo"))),)
    assert new.text == "Hello"


@pytest.mark.parametrize("part", [one for one in contents.EACH if not isinstance(one, Text)])
def test_a_kind_that_no_provider_can_be_sent_is_refused_by_its_name(part: Any) -> None:
    for value in (part, [Text("Look:"), part]):
        with pytest.raises(UnsupportedPart) as caught:
            said(value)
        assert part.kind in str(caught.value)
        assert (caught.value.code, bool(caught.value.hint)) == ("unsupported_part", True)


@pytest.mark.parametrize(
    "value",
    ["", " \n", Text(""), [], [Text(" "), Text("")], Text("x" * 1001), [Text("x" * 600)] * 2]
    + ["a\0b", [Text("a"), Text("\ud83d")], Text(None), [Text(7)], None, 7, b"x", {"text": "x"}],  # type: ignore[arg-type]
    ids=lambda value: repr(value)[:24],
)
def test_what_is_no_text_that_can_be_sent_is_told(value: object) -> None:
    with pytest.raises(InvalidText):
        said(value)


@pytest.mark.parametrize(
    "value",
    [["Hello"], [None], [Text("a"), {"type": "text", "text": "b"}], Endless(), Broken()],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_list_of_parts_is_told_and_quotes_nothing(value: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        said(value)
    assert caught.value.hint
    assert "said" not in str(caught.value)


def test_a_message_has_no_more_parts_than_the_bound() -> None:
    assert len(said([Text("a")] * MOST_PARTS)) == MOST_PARTS
    with pytest.raises(InvalidInput, match=str(MOST_PARTS)):
        said([Text("a")] * (MOST_PARTS + 1))
