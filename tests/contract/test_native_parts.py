"""How each vendor is sent parts: text as it always was, its own items where they stood."""

from typing import Any

import pytest

from tests import contents
from tests.contract.rigs import a_request
from turnmill.domain.content import Audio, File, Image, Message, Native, Part, Text
from turnmill.domain.errors import Rejected
from turnmill_worker.providers.anthropic import messages
from turnmill_worker.providers.openai import chat, responses

REASONING = {"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAA", "summary": []}
THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "EqQB"}


def native(provider: str, api: str, item: str) -> Native:
    return Native(provider=provider, api=api, item=item)


def request(*parts: Part, **given: Any) -> Any:
    said = [Message("user", (Text("What is "), Text("next?")))]
    return a_request(messages=said, history=[Message("assistant", parts)], **given)


OWN_REASONING = native(
    "openai",
    "responses",
    '{"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAA", "summary": []}',
)
OWN_FIELDS = native("openai", "chat", '{"reasoning_content": "Hm."}')
OWN_THINKING = native(
    "anthropic", "messages", '{"type": "thinking", "thinking": "Hm.", "signature": "EqQB"}'
)


def test_responses_get_their_own_items_where_they_stood_between_the_words() -> None:
    said = (Text("Let me "), Text("see."), OWN_REASONING, Text("Two."), OWN_FIELDS)
    items = responses.body_of(request(*said), chain=False)["input"]
    assert items == [
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Let me see."}],
        },
        REASONING,
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Two."}],
        },
        {"role": "user", "content": "What is next?"},
    ]


def test_a_chain_is_sent_all_messages_of_the_turn_and_none_of_the_history() -> None:
    several = [Message.of("user", "One."), Message.of("user", "Two.")]
    body = responses.body_of(
        a_request(messages=several, history=[OWN_REASONING], thread_ref="resp_1"), chain=True
    )
    assert [one["content"] for one in body["input"]] == ["One.", "Two."]


def test_a_chat_gets_the_fields_that_came_with_a_message_back_with_it() -> None:
    said = chat.body_of(request(OWN_FIELDS, Text("Two."), OWN_REASONING))["messages"]
    assert said == [
        {"role": "assistant", "content": "Two.", "reasoning_content": "Hm."},
        {"role": "user", "content": "What is next?"},
    ]


def test_messages_get_their_own_blocks_where_they_stood() -> None:
    body = messages.body_of(request(OWN_THINKING, Text(" "), Text("Two.")))
    roles = [said["role"] for said in body["messages"]]
    assert roles == ["user", "assistant", "user"]
    first, own, last = (said["content"] for said in body["messages"])
    assert own == [THINKING, {"type": "text", "text": " Two."}]
    assert [block["text"] for block in (*first, *last)] == ["(no words)", "What is next?"]


def test_several_messages_of_a_turn_are_sent_in_their_order() -> None:
    several = a_request(messages=[Message.of("user", "One."), Message.of("user", "Two.")])
    said = chat.body_of(several)["messages"]
    assert [one["content"] for one in said] == ["One.", "Two."]
    (said,) = messages.body_of(several)["messages"]  # roles alternate
    assert [block["text"] for block in said["content"]] == ["One.", "Two."]


@pytest.mark.parametrize(
    "part", [one for one in contents.EACH if isinstance(one, Image | File | Audio)]
)
@pytest.mark.parametrize(
    "body_of",
    [lambda given: responses.body_of(given, chain=False), chat.body_of, messages.body_of],
    ids=["responses", "chat", "messages"],
)
def test_what_an_api_cannot_be_sent_is_an_error_and_is_not_left_out(
    part: Part, body_of: Any
) -> None:
    with pytest.raises(Rejected) as caught:
        body_of(request(Text("Look:"), part))
    assert caught.value.error_code == "unsupported_part"
