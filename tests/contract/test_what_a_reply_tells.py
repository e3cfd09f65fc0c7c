"""Why a reply ended, whom it cites and what was thought: kept as it came, and told in our words."""

import json
from typing import Any

import pytest

from tests.contract.rigs import a_request
from tests.contract.telling import (
    ANNOTATION,
    BLOCKS,
    ON_THE_WEB,
    QUOTED,
    REFUSED,
    SAID,
    THOUGHT,
    WORDS,
    a_message,
    a_response,
    blocks_after,
    items_after,
    of_chat,
    of_messages,
    of_responses,
)
from tests.doubles import streams
from tests.doubles.raw_vendor import RawVendor, stream
from tests.validators import anthropic_messages, openai_chat
from turnmill import Citation, FinishReason, Refusal
from turnmill.domain.bounds import MOST_PARTS
from turnmill.domain.content import Message, Native, Part, Text
from turnmill.domain.errors import Rejected
from turnmill.domain.replying import citations_in, finish_reason_of, reasoning_in, refusal_in
from turnmill.domain.summaries import opening
from turnmill_worker.providers.anthropic import messages
from turnmill_worker.providers.offering import native_of
from turnmill_worker.providers.openai import chat, responses
from turnmill_worker.providers.port import Done, Failed, used_by


def test_what_anthropic_cites_is_kept_as_it_came_and_sent_back_where_it_stood() -> None:
    found = of_messages(*BLOCKS)
    assert found.text == WORDS
    own = [part.item for part in found.parts if isinstance(part, Native)]
    assert len(own) == 2 and '"file_id":"file_1"' in own[0]
    known = {name: one for name, one in QUOTED.items() if name != "file_id"}  # it takes no id back
    assert blocks_after(found.parts) == [
        BLOCKS[0],
        {"type": "text", "text": "Rome is warm.", "citations": [known]},
        BLOCKS[3],  # the blank between them is none that may be sent
    ]
    assert citations_in(found.parts) == (
        Citation(text="Rome is warm.", quote="Rome: 29 degrees.", title="Atlas", file_id="file_1"),
        Citation(text="Oslo is not.", quote="It snows.", title="Oslo", url="https://oslo.example"),
    )


def test_what_is_cited_of_words_that_were_changed_is_not_sent_back() -> None:
    found = of_messages(*BLOCKS)
    assert blocks_after(found.with_text("Rome is hot.").parts) == "Rome is hot."
    kept = found.with_text("It is certain: Oslo is not.")
    assert blocks_after([*kept.parts[:1], *kept.parts[2:]]) == [
        {"type": "text", "text": "It is certain: "},
        BLOCKS[3],
    ]


def test_an_item_that_cites_no_words_at_all_is_not_sent_back() -> None:
    blank = {"type": "text", "text": " \n", "citations": [QUOTED]}
    said: list[Part] = [Text("Hello."), Text(" \n"), native_of("anthropic", "messages", blank)]
    assert blocks_after(said) == "Hello. \n"
    blocks = [
        {"type": "output_text", "text": words, "annotations": [{"type": "file_path"}]}
        for words in ("Hello.", " ")
    ]
    item = {"type": "message", "role": "assistant", "content": blocks}
    told = Message("assistant", [Text("Hello. "), native_of("openai", "responses", item)])
    (sent, _) = responses.body_of(a_request(history=[told]), chain=False)["input"]
    assert sent["content"] == blocks[:1]


def test_a_reply_that_cites_more_than_a_message_has_parts_keeps_all_its_words() -> None:
    many = [{"type": "text", "text": f"{n}. ", "citations": [ON_THE_WEB]} for n in range(2000)]
    found = of_messages(*many)
    assert found.text == "".join(f"{n}. " for n in range(2000))
    assert len(found.parts) < MOST_PARTS
    assert len(citations_in(found.parts)) == 300


@pytest.mark.anyio
async def test_citations_come_in_a_stream_as_they_come_at_once() -> None:
    deltas: list[dict[str, Any]] = [
        {"type": "text_delta", "text": "Rome is "},
        {"type": "citations_delta", "citation": QUOTED},
        {"type": "text_delta", "text": "warm."},
    ]
    block = {"type": "text", "text": "", "citations": []}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**a_message(), "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *({"type": "content_block_delta", "index": 0, "delta": one} for one in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}},
        {"type": "message_stop"},
    ]
    said: list[str] = []

    async def heard(piece: str) -> None:
        said.append(piece)

    async with RawVendor() as vendor:
        vendor.meet(stream([streams.written(one) for one in events]))
        provider = vendor.provider("messages")
        found = await provider.send(a_request(), emit=heard)
        await provider.aclose()
    assert isinstance(found, Done)
    assert "".join(said) == found.text == "Rome is warm."
    assert found.parts == of_messages({**BLOCKS[1], "citations": [QUOTED]}).parts


def test_what_a_response_cites_is_kept_as_it_came_and_sent_back_without_its_id() -> None:
    found = of_responses(SAID)
    assert [part.kind for part in found.parts] == ["text", "native"]
    assert citations_in(found.parts) == (
        Citation(text="Rome is warm.", title="Atlas", url="https://atlas.example"),
    )
    sent = {"type": "output_text", "text": WORDS, "annotations": [ANNOTATION]}
    assert items_after(found.parts) == [{"type": "message", "role": "assistant", "content": [sent]}]
    assert items_after(found.with_text("Rome.").parts) == [
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Rome."}],
        }
    ]


def test_what_a_chain_cites_and_has_thought_is_kept_to_be_seen() -> None:
    found = of_responses(THOUGHT, SAID, chain=True)
    assert [part.kind for part in found.parts] == ["native", "text", "native"]
    assert reasoning_in(found.parts) == "Which is warm?\n\nRome."
    assert len(citations_in(found.parts)) == 1
    # Where the chain is lost, reasoning that belongs to what only the vendor knows stays here.
    assert [item["type"] for item in items_after(found.parts)] == ["message"]


def test_reasoning_of_a_history_that_is_ours_travels_back_with_its_summary() -> None:
    found = of_responses(THOUGHT, SAID)
    assert items_after(found.parts)[0] == THOUGHT
    assert reasoning_in(found.parts) == "Which is warm?\n\nRome."
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "EqQB"}
    assert reasoning_in(of_messages(thinking, *BLOCKS).parts) == "Hm."


def test_what_a_chat_completion_cites_is_kept_and_taken_back_by_nobody() -> None:
    one = {name: value for name, value in ANNOTATION.items() if name != "type"}
    found = of_chat(content=WORDS, annotations=[{"type": "url_citation", "url_citation": one}])
    assert found.text == WORDS
    assert citations_in(found.parts) == (
        Citation(text="Rome is warm.", title="Atlas", url="https://atlas.example"),
    )
    history = [Message.of("user", "?"), Message("assistant", found.parts)]
    body = chat.body_of(a_request(history=history))
    assert body["messages"][1] == {"role": "assistant", "content": WORDS}
    assert openai_chat.violations(body) == []


def test_a_reply_that_tells_nothing_more_is_one_text() -> None:
    plain = {**SAID, "content": [{"type": "output_text", "text": "Rome.", "annotations": []}]}
    assert of_responses(plain).parts == (Text("Rome."),)
    assert of_messages({"type": "text", "text": "Rome.", "citations": []}).parts == (Text("Rome."),)
    assert of_chat(content="Rome.", annotations=[]).parts == (Text("Rome."),)


@pytest.mark.parametrize(
    "item",
    [
        *("7", "[]", "{", '{"type": 7}', '{"type": "text"}', '{"type": "text", "citations": 7}'),
        *('{"type": "text", "text": 1, "citations": [{"url": 2}, 3]}', '{"annotations": [{}]}'),
        '{"type": "message", "content": [{"text": "a", "annotations": [{"start_index": -1}]}]}',
        '{"type": "reasoning", "summary": [{"text": 1}], "content": 2}',
    ],
)
def test_what_makes_no_sense_in_an_item_is_as_if_it_were_absent(item: str) -> None:
    parts: list[Part] = [Text("Rome."), Native(provider="openai", item=item)]
    assert all(one in (Citation(), Citation(text="")) for one in citations_in(parts))
    assert reasoning_in(parts) == ""
    assert refusal_in(parts) == Refusal(explanation="Rome.")


# Endings.


def test_why_anthropic_refuses_is_kept_as_it_came() -> None:
    found = of_messages({"type": "text", "text": "I "}, stop="refusal", stop_details=REFUSED)
    assert (found.text, found.finish_reason) == ("I ", FinishReason.REFUSAL)
    assert refusal_in(found.parts) == Refusal(
        category="cyber", explanation="Of malware it does not talk."
    )
    nothing = of_messages(stop="refusal")
    assert (nothing.text, refusal_in(nothing.parts)) == ("", Refusal())


def test_a_turn_that_anthropic_has_refused_is_left_out_of_what_it_is_sent() -> None:
    refused = of_messages(stop="refusal", stop_details=REFUSED)
    history = [
        opening("They talked of towns."),
        Message.of("user", "Write a virus."),
        Message.of("system", "It is late."),
        Message("assistant", refused.parts),
        Message.of("user", "Which is warm?"),
        Message.of("assistant", "Rome."),
        Message.of("user", "A worm, then."),
        Message("assistant", (Text("A worm "), *refused.parts[1:])),
    ]
    body = messages.body_of(
        a_request("And cold?", history=history, settings={"prompt_cache": "off"})
    )
    assert anthropic_messages.violations(body) == []
    assert body["system"] == "It is late."
    first, answer, last = (one["content"] for one in body["messages"])
    before = opening("They talked of towns.").text
    assert [one["text"] for one in first] == [before, "Which is warm?"]
    assert (answer, last) == ("Rome.", "And cold?")


def test_a_refused_turn_of_one_vendor_is_told_to_another_as_what_it_is() -> None:
    refused = of_messages({"type": "text", "text": "No."}, stop="refusal", stop_details=REFUSED)
    history = [Message.of("user", "Write a virus."), Message("assistant", refused.parts)]
    sent = responses.body_of(a_request(history=history), chain=False)["input"]
    assert [one.get("role") for one in sent] == ["user", "assistant", "user"]


def test_a_reply_that_fills_the_context_says_so() -> None:
    found = of_messages({"type": "text", "text": "So"}, stop="model_context_window_exceeded")
    assert (found.text, found.finish_reason) == ("So", FinishReason.CONTEXT_FULL)


def test_a_word_of_somebody_elses_is_kept_as_it_is() -> None:
    assert finish_reason_of("tired") == "tired"
    assert finish_reason_of(None) is FinishReason.STOP
    assert finish_reason_of("length") is FinishReason.LENGTH


# Through the store, to whoever asked.


PAINTED = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "iVBO"}


def test_a_picture_beside_words_is_told_without_its_bytes_and_goes_back_to_nobody() -> None:
    for chain in (True, False):
        done = of_responses(PAINTED, SAID, chain=chain)
        assert (done.text, done.finish_reason) == (WORDS, "stop")
        told, _ = [json.loads(one.item) for one in done.parts if isinstance(one, Native)]
        assert told == {name: one for name, one in PAINTED.items() if name != "result"}
        assert "image_generation_call" not in json.dumps(items_after(done.parts))


def test_a_picture_alone_is_no_empty_reply() -> None:
    payload = {**a_response(PAINTED), "usage": {"input_tokens": 9, "output_tokens": 4}}
    with pytest.raises(Rejected) as caught:
        responses.reply_of(payload, chain=True, request_id="req_1")
    assert (caught.value.error_code, caught.value.kept) == ("pictures_unsupported", ("resp_1",))
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}
    for message in ({"content": "", "images": [picture]}, {"content": [picture]}):
        with pytest.raises(Rejected, match="pictures_unsupported"):
            of_chat(**message)
        assert of_chat(**{"images": [picture], **message, "content": "A cat."}).text == "A cat."
    found = responses.found_of(payload, chain=True, request_id="req_1")
    assert isinstance(found, Failed)
    assert found.error.error_code == "pictures_unsupported"
    used = used_by(found.error)
    assert used is not None
    assert used.usage.output_tokens == 4
