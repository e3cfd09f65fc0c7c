"""An answer is its parts; who only knows text says text."""

from dataclasses import replace

from tests.doubles.small_vendor import SmallProvider
from turnmill.domain.content import File, Image, Native, Text, ToolCall, ToolOutput
from turnmill_worker.providers import Accepts, Done, Usage
from turnmill_worker.providers.anthropic.provider import AnthropicProvider

OWN = Native(provider="theirs", item="{}")


def test_an_answer_of_text_is_one_part_and_an_answer_of_parts_has_their_text() -> None:
    assert Done(text="Hello.").parts == (Text("Hello."),)
    assert Done(text="Hello.") == Done(parts=(Text("Hello."),))
    assert Done(parts=[OWN, Text("Hel"), Text("lo.")]).text == "Hello."


def test_an_answer_in_other_words_keeps_what_is_no_text() -> None:
    answer = Done(parts=(OWN, Text("a secret"), OWN, Text("!")), usage=Usage(output_tokens=3))
    replaced = replace(answer, text="redacted")  # type: ignore[call-arg]  # it is no field
    for told in (answer.with_text("redacted"), replaced):
        assert told.parts == (OWN, Text("redacted"), OWN)
        assert told.usage.output_tokens == 3
    assert Done(parts=[OWN]).with_text("Hello.").parts == (OWN, Text("Hello."))
    assert replace(answer, finish_reason="length").parts == answer.parts
    assert replace(answer, parts=[Text("x")]).text == "x"


def test_who_says_nothing_of_it_takes_text() -> None:
    assert not isinstance(object.__new__(SmallProvider), Accepts)
    assert AnthropicProvider.accepts == {Text, Image, File, ToolCall, ToolOutput, Native}
