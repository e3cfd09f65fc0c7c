"""A history that a vendor refuses for its structure is told again in plain words, once."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contract.rigs import a_request
from tests.doubles.anthropic_server import AnthropicDouble
from tests.doubles.openai_server import OpenAIDouble
from tests.doubles.vendor_double import VendorDouble
from tests.doubles.whole_turn import Books, run_to_end
from tests.ledgers import stored
from turnmill.domain.content import Message, Native, Part, Text, ToolCall, ToolOutput
from turnmill.domain.states import TurnState
from turnmill_worker.layers.repair import plain
from turnmill_worker.providers.anthropic.provider import AnthropicProvider
from turnmill_worker.providers.openai.provider import OpenAIProvider
from turnmill_worker.providers.port import Provider

pytestmark = pytest.mark.anyio

THINKING = Native(provider="anthropic", api="messages", item='{"type": "thinking"}')
REASONING = Native(provider="openai", api="responses", item='{"type": "reasoning", "id": "rs_1"}')
#: As an older version, another program or a bug may have left it.
PAST = [
    Message.of("user", "Hello"),
    Message("assistant", (THINKING, REASONING, Text("Hello."))),
    Message.of("user", "Again"),
    Message.of("user", "and again"),
    Message("assistant", (REASONING,)),
]
SETTINGS: dict[str, dict[str, Any]] = {
    "anthropic": {},
    "responses": {"thread": "client"},
    "chat": {"api": "chat"},
    "chain": {},
}


@pytest.fixture(params=list(SETTINGS))
def asked(
    request: pytest.FixtureRequest,
    openai: OpenAIProvider,
    openai_double: OpenAIDouble,
    anthropic: AnthropicProvider,
    anthropic_double: AnthropicDouble,
) -> tuple[Provider, VendorDouble, dict[str, Any]]:
    settings = {"settings": SETTINGS[request.param], "history": stored(PAST)}
    if request.param == "anthropic":
        return anthropic, anthropic_double, settings
    if request.param == "chain":
        settings |= {"history": stored([]), "provider_ref": "resp_00000001"}
    return openai, openai_double, settings


def said_in(body: dict[str, Any]) -> list[str]:
    said = body.get("messages") or body["input"]
    return [one["role"] for one in said]


async def test_a_history_that_is_refused_is_sent_once_more_in_plain_words(
    asked: tuple[Provider, VendorDouble, dict[str, Any]],
) -> None:
    provider, double, of_claim = asked
    is_chain = "provider_ref" in of_claim  # is first built anew, as it stands
    double.meet("history_refused", *["history_refused"] * is_chain)
    books = Books(past=PAST)
    last = await run_to_end(provider, books, max_attempts=1, **of_claim)
    assert (last.state, last.error_code) == (TurnState.SUCCEEDED, None)
    refused = books.settled[0]
    assert (refused.outcome, refused.error_code) == ("refused", "history_refused")
    assert refused.error_detail
    assert refused.gives_attempt_back
    assert len(double.calls) == 2 + is_chain
    assert said_in(double.last.body) == ["user", "assistant", "user"]
    assert "reasoning" not in str(double.last.body)
    assert "previous_response_id" not in double.last.body
    assert "Again" in str(double.last.body) and "and again" in str(double.last.body)


async def test_a_history_that_is_refused_in_plain_words_too_fails_its_turn(
    asked: tuple[Provider, VendorDouble, dict[str, Any]],
) -> None:
    provider, double, of_claim = asked
    double.always = "history_refused"
    books = Books(past=PAST)
    last = await run_to_end(provider, books, **of_claim)
    assert (last.state, last.error_code) == (TurnState.FAILED, "history_refused")
    assert [one.outcome for one in books.settled] == ["refused", "failed"]


async def test_a_refusal_that_is_told_in_the_background_is_repaired_too(
    openai: OpenAIProvider, openai_double: OpenAIDouble
) -> None:
    openai_double.meet("failed:invalid_encrypted_content")
    books = Books()
    last = await run_to_end(openai, books, settings={"background": True})
    assert last.state is TurnState.SUCCEEDED
    assert [one.outcome for one in books.settled] == ["waiting", "refused", "waiting", "succeeded"]


async def test_work_in_the_background_that_was_its_last_attempt_is_not_asked_for_again(
    openai: OpenAIProvider, openai_double: OpenAIDouble
) -> None:
    openai_double.meet("failed:invalid_encrypted_content")
    last = await run_to_end(openai, Books(), settings={"background": True}, max_attempts=1)
    assert (last.state, last.error_code) == (TurnState.FAILED, "history_refused")


PARTS: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, st.sampled_from(["", " ", "words", "more"])),
    st.builds(ToolCall, id=st.just("c"), name=st.just("f"), arguments=st.just("{}")),
    st.builds(ToolOutput, call_id=st.just("c"), output=st.just("out"), is_error=st.booleans()),
    st.sampled_from([THINKING, REASONING]),
)
MESSAGES = st.lists(
    st.builds(
        Message,
        st.sampled_from(["user", "assistant", "tool", "system"]),
        st.lists(PARTS, max_size=3).map(tuple),
    ),
    max_size=6,
)


def talk(messages: Sequence[Message]) -> list[str]:
    return [one.role for one in messages if one.role != "system"]


@given(history=MESSAGES, messages=MESSAGES)
def test_whatever_a_history_holds_its_plain_words_are_taken_by_any_vendor(
    history: list[Message], messages: list[Message]
) -> None:
    request = plain(a_request(history=history, messages=messages, thread_ref="thread"))
    roles = talk([*request.history, *request.messages])
    assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
    assert request.messages[-1].role == "user"
    for one in (*request.history, *request.messages):
        assert one.text.strip() and all(isinstance(part, Text) for part in one.parts)
    assert request.thread_ref == "" and request.continues == 0
    words = {part.text for one in (*history, *messages) for part in one.parts if type(part) is Text}
    told = "".join(one.text for one in (*request.history, *request.messages))
    assert all(one in told for one in words if one.strip())
