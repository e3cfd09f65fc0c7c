"""What a reply tells is told by its turn, too, and shown in a terminal."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.contract.telling import (
    BLOCKS,
    ON_THE_WEB,
    REFUSED,
    SAID,
    THOUGHT,
    WAIT,
    WORDS,
    a_message,
    a_response,
    of_messages,
    of_responses,
)
from tests.doubles.raw_vendor import RawVendor, http
from tests.doubles.vendor_thread import VendorThread
from tests.validators import anthropic_messages
from turnmill import Client, FinishReason, Refusal, TurnFailed
from turnmill.domain.content import Text
from turnmill.show.wording import said, sources_of
from turnmill.testing import memory_client

Answers = Callable[[str, str], dict[str, Any]]


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Iterator[RawVendor]:
    with VendorThread() as vendor:
        for name in ("OPENAI", "ANTHROPIC"):
            monkeypatch.setenv(f"{name}_API_KEY", "k")
            monkeypatch.setenv(f"{name}_BASE_URL", vendor.url)
        yield vendor


@pytest.fixture
def client(vendor: RawVendor) -> Iterator[Client]:
    with memory_client() as client:
        yield client


def test_a_reply_names_its_sources_its_thoughts_and_its_tier(
    client: Client, vendor: RawVendor
) -> None:
    vendor.meet(http({**a_response(THOUGHT, SAID), "service_tier": "flex"}))
    settings = {
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"verbosity": "low"},
        "service_tier": "flex",
    }
    session = client.sessions.create(
        user_id="ada", provider="openai", model="gpt-5-mini", settings=settings
    )
    reply = client.send(session, "Which is warm?").result(timeout=WAIT)
    assert {name: vendor.bodies[0][name] for name in settings} == settings
    assert (reply.text, reply.finish_reason) == (WORDS, "stop")
    assert [one.url for one in reply.citations] == ["https://atlas.example"]
    assert reply.reasoning == "Which is warm?\n\nRome."
    assert reply.service_tier == "flex"
    assert reply.refusal is None
    assert WORDS not in repr(reply.citations) and "Atlas" not in repr(reply.citations)


def test_a_refused_turn_is_told_and_the_next_one_is_asked_without_it(
    client: Client, vendor: RawVendor
) -> None:
    vendor.meet(
        http(a_message(stop="refusal", stop_details=REFUSED)),
        http(a_message(*BLOCKS)),
        http(a_message({"type": "text", "text": "So"}, stop="model_context_window_exceeded")),
    )
    session = client.sessions.create(user_id="ada", provider="anthropic", model="claude-sonnet-4-5")
    refused, cited, cut = (
        client.send(session, text).result(timeout=WAIT) for text in ("A virus", "Warm?", "More?")
    )
    assert refused.finish_reason is FinishReason.REFUSAL
    assert refused.refusal == Refusal(category="cyber", explanation="Of malware it does not talk.")
    assert (cited.text, len(cited.citations)) == (WORDS, 2)
    assert cut.finish_reason is FinishReason.CONTEXT_FULL
    _, second, third = vendor.bodies
    assert [one["content"][0]["text"] for one in second["messages"]] == ["Warm?"]
    assert [block.get("citations") is None for block in third["messages"][1]["content"]] == [
        True,
        False,
        False,
    ]
    assert anthropic_messages.violations(third) == []


def test_in_a_terminal_what_is_cited_has_numbers_and_its_sources_stand_below() -> None:
    twice = [*BLOCKS, {"type": "text", "text": " At all.", "citations": [ON_THE_WEB]}]
    assert said(of_messages(*twice).parts).splitlines() == [
        "According to the atlas, Rome is warm. [1] Oslo is not. [2] At all. [2]",
        "",
        "[1] Atlas: file_1",
        "[2] Oslo: https://oslo.example",
    ]
    assert sources_of(of_responses(SAID).parts).splitlines() == [
        "",
        "[1] Atlas: https://atlas.example",
    ]
    assert sources_of([Text("Rome.")]) == ""
    refused = of_messages({"type": "text", "text": "I "}, stop="refusal", stop_details=REFUSED)
    assert said(refused.parts) == "I \n[refused: Of malware it does not talk.]"


def test_the_mock_ends_as_it_is_told(client: Client) -> None:
    session = client.sessions.create(user_id="ada", provider="mock")
    told = {"mock": {"reply": "I would rather not.", "finish_reason": "refusal"}}
    reply = client.send(session, "A virus", metadata=told).result(timeout=WAIT)
    assert (reply.finish_reason, reply.text) == (FinishReason.REFUSAL, "I would rather not.")
    assert reply.refusal == Refusal(explanation="I would rather not.")
    odd = client.send(session, "A virus", metadata={"mock": {"finish_reason": "tool_calls"}})
    with pytest.raises(TurnFailed):
        odd.result(timeout=WAIT)


def test_a_refusal_is_not_mended_where_a_form_is_asked_for_and_says_what_it_was(
    client: Client, vendor: RawVendor
) -> None:
    no = {"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}
    refusals = {
        "openai": a_response(no),
        "anthropic": a_message(stop="refusal", stop_details=REFUSED),
    }
    form = {"type": "object", "properties": {"city": {"type": "string"}}}
    for provider, refused in refusals.items():
        vendor.meet(http(refused))
        session = client.sessions.create(
            user_id="ada", provider=provider, model="large", response_format=form
        )
        turn = client.send(session, "A virus")
        with pytest.raises(TurnFailed) as caught:
            turn.result(timeout=WAIT)
        assert caught.value.error_code == "reply_refused"
        assert turn.refresh().record.finish_reason == "refusal"
        assert len(vendor.bodies) == 1


CUT, WHOLE = '{"city": "Ro', '{"city": "Rome"}'


def _response(words: str, reason: str) -> dict[str, Any]:
    said = {"type": "message", "content": [{"type": "output_text", "text": words}]}
    ended = {"status": "incomplete", "incomplete_details": {"reason": reason}}
    return {**a_response(said), **ended, "usage": {"input_tokens": 10, "output_tokens": 5}}


def _message(words: str, stop: str) -> dict[str, Any]:
    return a_message({"type": "text", "text": words}, stop=stop)


@pytest.mark.parametrize(
    ("provider", "answer", "reason"),
    [
        ("openai", _response, "max_output_tokens"),
        ("anthropic", _message, "max_tokens"),
        ("anthropic", _message, "model_context_window_exceeded"),
    ],
)
def test_a_reply_that_was_cut_off_is_not_paid_for_again_to_be_cut_off_again(
    client: Client, vendor: RawVendor, provider: str, answer: Answers, reason: str
) -> None:
    form = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    session = client.sessions.create(
        user_id="ada", provider=provider, model="large", response_format=form
    )
    vendor.meet(http(answer(CUT, reason)), http(answer(WHOLE, reason)))
    turn = client.send(session, "Where?")
    with pytest.raises(TurnFailed, match="max_output_tokens") as caught:
        turn.result(timeout=WAIT)
    assert caught.value.error_code == "reply_cut_off"
    assert len(vendor.bodies) == 1
    assert turn.refresh().record.output_tokens == 5  # that was paid for all the same
    turn.retry()
    assert turn.result(timeout=WAIT).text == WHOLE  # cut off behind its end, it is all there
