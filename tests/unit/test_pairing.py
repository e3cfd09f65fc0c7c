"""A conversation as it is sent: each call with its output, whatever the history lacks."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import contents
from turnmill.domain.content import Image, Message, Native, Part, Text, ToolCall, ToolOutput
from turnmill.domain.errors import Rejected
from turnmill.store.codec import StoredHistory, content_of
from turnmill_worker.providers.pairing import (
    NO_OUTPUT,
    Dialect,
    arguments_of,
    name_of_tool,
    paired,
    said_arguments_of,
    words_of,
)

ANY = Dialect(api="any", id_max=40)


def call(name: str = "a", arguments: str = "{}") -> ToolCall:
    return ToolCall(id=name, name="weather", arguments=arguments)


def output(name: str = "a", said: str = "sunny") -> ToolOutput:
    return ToolOutput(call_id=name, output=said)


def missing(name: str) -> ToolOutput:
    return ToolOutput(call_id=name, output=NO_OUTPUT, is_error=True)


def assistant(*parts: Part) -> Message:
    return Message("assistant", [*parts])


def tool(*parts: Part) -> Message:
    return Message("tool", [*parts])


def user(text: str = "And?") -> Message:
    return Message("user", [Text(text)])


def sent(*messages: Message, held: tuple[Message, ...] = ()) -> list[Message]:
    return [Message(one.role, [*one.parts]) for one in paired(messages, dialect=ANY, held=held)]


def test_a_step_is_sent_as_it_was_with_its_outputs_as_one_message_in_the_order_of_the_calls() -> (
    None
):
    said = sent(
        user(),
        assistant(Text("Let me see."), call("a"), call("b")),
        tool(output("b")),
        tool(output("a")),
    )
    assert said == [
        user(),
        assistant(Text("Let me see."), call("a"), call("b")),
        tool(output("a"), output("b")),
    ]


def test_a_call_without_an_output_gets_one_that_says_so() -> None:
    for rest in ((), (user(),), (tool(output("b")),)):
        said = sent(user(), assistant(call("a"), call("b")), *rest)
        answers = said[2].parts
        assert answers[0] == missing("a")
        assert answers[1] == (output("b") if rest == (tool(output("b")),) else missing("b"))


def test_an_output_that_belongs_to_no_call_becomes_words_of_the_user() -> None:
    words = user("(the output of a tool: sunny)")
    assert sent(tool(output())) == [words]
    assert sent(assistant(call("b")), user("x"), assistant(Text("y")), tool(output("b"))) == [
        assistant(call("b")),
        tool(missing("b")),
        user("x"),
        assistant(Text("y")),
        words,
    ]
    assert sent(assistant(call()), tool(output()), tool(output("a", "rain")))[2] == user(
        "(the output of a tool: rain)"
    )


def test_what_was_said_between_a_call_and_its_output_comes_behind_it() -> None:
    assert sent(assistant(call()), user(), tool(output())) == [
        assistant(call()),
        tool(output()),
        user(),
    ]


def test_an_id_that_comes_again_or_that_no_vendor_takes_becomes_another_in_both_places() -> None:
    again = [assistant(call()), tool(output()), assistant(call()), tool(output("a", "rain"))]
    said = sent(*again, assistant(call("no id!")), tool(output("no id!")))
    calls = [part for one in said for part in one.parts if isinstance(part, ToolCall)]
    ids = [one.id for one in calls]
    outputs = [part.call_id for one in said for part in one.parts if isinstance(part, ToolOutput)]
    assert ids == outputs
    assert ids[0] == "a"
    assert len(set(ids)) == 3
    assert all(one.replace("_", "").isalnum() and len(one) <= 40 for one in ids)
    assert [one.parts for one in sent(*again)] == [one.parts for one in said[:4]]  # it stays so


def test_the_outputs_of_calls_that_a_thread_holds_come_first_under_the_vendors_ids() -> None:
    long = "call_" + "x" * 60
    held = (user(), assistant(call(long), call("b")))
    assert sent(user("Go on."), tool(output(long)), held=held) == [
        tool(output(long), missing("b")),
        user("Go on."),
    ]
    assert sent(user(), held=(assistant(call()), tool(output()))) == [user()]


def test_blanks_are_left_out_and_texts_side_by_side_are_one() -> None:
    assert sent(user(" \n"), assistant(), user()) == [user()]
    assert sent(assistant(Text("a"), Text(" "), Text("b"), call())) == [
        assistant(Text("a b"), call()),
        tool(missing("a")),
    ]


def test_a_call_that_somebody_else_says_is_words() -> None:
    assert sent(Message("user", [call()])) == [user("(a call of weather: {})")]


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ('{"b": 1, "a": 2}', {"b": 1, "a": 2}),
        ("", {}),
        ("[1]", {"unparsed": "[1]"}),
        ('{"a": ', {"unparsed": '{"a": '}),
        ('{"a": NaN}', {"unparsed": '{"a": NaN}'}),
        ('{"a": "\\ud800"}', {"unparsed": '{"a": "\\ud800"}'}),
    ],
)
def test_arguments_are_sent_as_an_object_whatever_the_model_wrote(
    arguments: str, read: dict[str, object]
) -> None:
    one = call(arguments=arguments)
    assert arguments_of(one) == read
    assert json.loads(said_arguments_of(one)) == read
    if "unparsed" not in read and arguments:
        assert said_arguments_of(one) == arguments  # to the letter


def test_names_that_no_vendor_takes_stay_apart() -> None:
    odd = ["get.time", "get time", "n" * 80, "n" * 81, "", "é"]
    names = [name_of_tool(one) for one in odd]
    assert len(set(names)) == len(odd)
    assert all(0 < len(one) <= 64 and one.isascii() for one in names)
    assert name_of_tool("get_time-2") == "get_time-2"


def test_what_nobody_can_be_sent_is_an_error() -> None:
    for message, code in (
        (Message("assistant", [Image(id="att_1")]), "unsupported_part"),
        (Message.of("narrator", "x"), "unsupported_role"),
        (assistant(Native(provider="p", api="any", item="{")), "unreadable_row"),
    ):
        with pytest.raises(Rejected) as caught:
            sent(message)
        assert caught.value.error_code == code


def test_a_plain_conversation_is_sent_without_a_copy_of_its_messages() -> None:
    plain = [user(), Message.of("assistant", "Paris."), user()]
    assert all(one is other for one, other in zip(paired(plain, dialect=ANY), plain, strict=True))


def stored(said: list[Message]) -> StoredHistory:
    return StoredHistory.of_rows([(one.role, content_of(one.parts)) for one in said])


plain = st.builds(
    Message,
    st.sampled_from(["user", "assistant", "system"]),
    (st.sampled_from(["", " \n"]) | contents.words).map(lambda text: (Text(text),)),
)


@given(st.lists(plain, max_size=6), st.lists(plain, max_size=3))
def test_a_plain_history_that_is_read_as_words_says_what_its_messages_say(
    before: list[Message], said: list[Message]
) -> None:
    whole = [(one.role, one.text) for one in sent(*before, *said)]
    assert words_of(stored(before), said) == whole


@given(st.lists(contents.messages | plain, max_size=6), st.lists(contents.messages | plain))
def test_whatever_is_more_than_words_is_not_read_as_words(
    before: list[Message], said: list[Message]
) -> None:
    all_of = [*before, *said]
    is_plain = all(
        one.role != "tool" and [type(part) for part in one.parts] == [Text] for one in all_of
    )
    assert (words_of(stored(before), said) is not None) == is_plain


@pytest.mark.parametrize(
    "odd",
    [
        '[["user", [{"type": "text", "text": 5}]]]',
        '[["user", [{"type": "text", "text": "hello", "language": "en"}]]]',
        '[["user", "hello"]]',
        "{",
    ],
)
def test_what_nobody_can_read_is_left_to_whoever_looks_at_the_messages(odd: str) -> None:
    assert words_of(StoredHistory(odd), []) is None
