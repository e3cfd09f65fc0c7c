"""Conversations as OpenAI's own SDK knows them, and whatever one may hold."""

import os
from typing import Any

import openai as sdk
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract.rigs import a_request
from tests.doubles.openai_server import KEY, OpenAIDouble
from tests.validators import anthropic_messages, openai_chat, openai_responses
from turnmill.domain.errors import Rejected, ThreadLocked, ThreadLost
from turnmill_worker.providers.anthropic import messages
from turnmill_worker.providers.anthropic.provider import AnthropicProvider
from turnmill_worker.providers.fitting import fitted
from turnmill_worker.providers.openai import chat, responses
from turnmill_worker.providers.openai.adopted import messages_of
from turnmill_worker.providers.openai.provider import OpenAIProvider
from turnmill_worker.providers.port import Done

CONVERSATION = {"thread": "conversation"}
HELLO: Any = {"role": "user", "content": "Hello"}


@pytest.mark.anyio
async def test_the_stand_in_answers_as_the_vendors_sdk_expects(openai_double: OpenAIDouble) -> None:
    client = sdk.AsyncOpenAI(api_key=KEY, base_url=openai_double.base_url, max_retries=0)
    made = await client.conversations.create(items=[HELLO], metadata={"a": "b"})
    assert (made.object, made.metadata) == ("conversation", {"a": "b"})
    reply = await client.responses.create(model="m", input="And?", conversation=made.id)
    assert reply.conversation is not None and reply.conversation.id == made.id
    items = [one async for one in client.conversations.items.list(made.id, order="asc", limit=2)]
    assert [one.type for one in items] == ["message", "message", "reasoning", "message"]
    first = items[0].id or ""
    found = await client.conversations.items.retrieve(first, conversation_id=made.id)
    assert found == items[0]
    await client.conversations.items.delete(first, conversation_id=made.id)
    assert (await client.conversations.delete(made.id)).deleted
    assert len(openai_double.conversations.orphans) == 3
    with pytest.raises(sdk.NotFoundError):
        await client.conversations.items.list(made.id)
    await client.close()


@pytest.mark.anyio
async def test_the_stand_in_refuses_what_the_vendor_refuses(openai_double: OpenAIDouble) -> None:
    client = sdk.AsyncOpenAI(api_key=KEY, base_url=openai_double.base_url, max_retries=0)
    made = await client.conversations.create()
    with pytest.raises(sdk.BadRequestError, match="at most 20"):
        await client.conversations.create(items=[HELLO] * 21)
    with pytest.raises(sdk.BadRequestError, match="Mutually exclusive"):
        await client.responses.create(
            model="m", input="x", conversation=made.id, previous_response_id="resp_1"
        )
    with pytest.raises(sdk.BadRequestError, match="Expected an ID"):
        await client.responses.create(model="m", input="x", conversation="resp_1")
    openai_double.conversations.lock(made.id)
    with pytest.raises(sdk.ConflictError):
        await client.responses.create(model="m", input="x", conversation=made.id)
    with pytest.raises(sdk.NotFoundError):
        await client.responses.create(model="m", input="x", prompt={"id": "pmpt_1"})
    await client.close()


@pytest.mark.anyio
async def test_a_call_in_a_conversation_names_it_and_its_losses_are_told_apart(
    openai: OpenAIProvider, openai_double: OpenAIDouble
) -> None:
    ref = await openai.begin_thread(a_request(settings=CONVERSATION))
    reply = await openai.send(a_request(settings=CONVERSATION, thread_ref=ref))
    assert isinstance(reply, Done)
    assert reply.thread_ref == ref
    assert reply.kept == (next(iter(openai_double.kept)),)
    openai_double.conversations.lock(ref)
    with pytest.raises(ThreadLocked):
        await openai.send(a_request(settings=CONVERSATION, thread_ref=ref))
    openai_double.conversations.lose()
    with pytest.raises(ThreadLost) as lost:
        await openai.send(a_request(settings=CONVERSATION, thread_ref=ref))
    assert lost.value.error_code == "conversation_not_found"
    await openai.close(ref)  # gone already is success


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("given", "ref"),
    [({"thread": "chain"}, "conv_1"), (CONVERSATION, "resp_1"), ({"thread": "client"}, "conv_1")],
)
async def test_a_thread_of_another_kind_is_kept_elsewhere_and_nothing_is_sent(
    openai: OpenAIProvider, openai_double: OpenAIDouble, given: dict[str, str], ref: str
) -> None:
    with pytest.raises(ThreadLost) as caught:
        await openai.send(a_request(settings=given, thread_ref=ref))
    assert (caught.value.error_code, len(openai_double.calls)) == ("thread_kept_elsewhere", 0)


@pytest.mark.anyio
async def test_others_than_openais_responses_know_no_prompts_and_send_nothing(
    openai: OpenAIProvider,
    openai_double: OpenAIDouble,
    anthropic: AnthropicProvider,
) -> None:
    prompt = {"prompt": {"id": "pmpt_1"}}
    with pytest.raises(Rejected) as by_chat:
        await openai.send(a_request(settings={"api": "chat", **prompt}))
    with pytest.raises(Rejected) as by_anthropic:
        await anthropic.send(a_request(settings=prompt))
    codes = {by_chat.value.error_code, by_anthropic.value.error_code}
    assert codes == {"setting_refused"}
    assert not openai_double.calls


_WORDS = st.sampled_from(["Hello.", "", " ", "é\U0001f600", None, 7])
_IDS = st.sampled_from(["call_1", "call_2", "", "x" * 80, None])
_BLOCKS = st.lists(
    st.one_of(
        st.builds(
            lambda kind, words: {"type": kind, "text": words, "refusal": words},
            st.sampled_from(["input_text", "output_text", "refusal", "summary_text", "text"]),
            _WORDS,
        ),
        st.sampled_from([{"type": "input_image"}, {"type": "input_file", "filename": "a.pdf"}, 7]),
    ),
    max_size=3,
)
_ROLES = ["user", "assistant", "system", "developer", "tool", "critic", "unknown", None]
_ITEMS = st.one_of(
    st.builds(
        lambda role, content: {"type": "message", "role": role, "content": content},
        st.sampled_from(_ROLES),
        st.one_of(_WORDS, _BLOCKS),
    ),
    st.builds(
        lambda name, given, call_id: {
            "type": "function_call",
            "name": name,
            "arguments": given,
            "call_id": call_id,
        },
        st.sampled_from(["f", "a b", "", None]),
        st.sampled_from(["{}", '{"a": 1}', "", "[1]", None, {}]),
        _IDS,
    ),
    st.builds(
        lambda call_id, said: {"type": "function_call_output", "call_id": call_id, "output": said},
        _IDS,
        st.one_of(_WORDS, _BLOCKS),
    ),
    st.sampled_from(
        [
            {"type": "reasoning", "summary": []},
            {"type": "web_search_call", "status": "completed"},
            {"type": "custom_tool_call", "call_id": "call_1", "name": "f", "input": "x"},
            {"type": "compaction", "encrypted_content": "g"},
            {"type": 7},
            {},
        ]
    ),
)


@settings(
    max_examples=int(os.environ.get("TURNMILL_TEST_EXAMPLES", "150")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.lists(_ITEMS, max_size=10))
def test_whatever_an_adopted_thread_holds_is_told_to_each_vendor_as_it_takes_it(
    items: list[dict[str, Any]],
) -> None:
    request = a_request("And?", history=messages_of(items))
    body = responses.body_of(request, chain=False)
    assert openai_responses.violations(body) == []
    begun = responses.body_of(request, chain=False, conversation="conv_1")
    assert openai_responses.violations(begun) == []
    assert openai_chat.violations(chat.body_of(request)) == []
    shown = fitted(request, name="anthropic", takes=AnthropicProvider.accepts)
    assert anthropic_messages.violations(messages.body_of(shown)) == []
