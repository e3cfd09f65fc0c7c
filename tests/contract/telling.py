"""Replies of vendors that tell more than words, and what becomes of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.contract.rigs import a_request
from tests.validators import anthropic_messages, openai_responses
from turnmill.domain.content import Message, Part
from turnmill_worker.providers.anthropic import messages
from turnmill_worker.providers.openai import chat, responses
from turnmill_worker.providers.port import Done

WAIT = 30


WORDS = "According to the atlas, Rome is warm. Oslo is not."


QUOTED = {
    "type": "char_location",
    "cited_text": "Rome: 29 degrees.",
    "document_index": 0,
    "document_title": "Atlas",
    "start_char_index": 0,
    "end_char_index": 17,
    "file_id": "file_1",
}


ON_THE_WEB = {
    "type": "web_search_result_location",
    "cited_text": "It snows.",
    "encrypted_index": "Eo8B",
    "title": "Oslo",
    "url": "https://oslo.example",
}


BLOCKS: list[dict[str, Any]] = [
    {"type": "text", "text": "According to the atlas, "},
    {"type": "text", "text": "Rome is warm.", "citations": [QUOTED]},
    {"type": "text", "text": " "},
    {"type": "text", "text": "Oslo is not.", "citations": [ON_THE_WEB]},
]


ANNOTATION = {
    "type": "url_citation",
    "start_index": 24,
    "end_index": 37,
    "title": "Atlas",
    "url": "https://atlas.example",
}


THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [
        {"type": "summary_text", "text": "Which is warm?"},
        {"type": "summary_text", "text": "Rome."},
    ],
    "encrypted_content": "gAAA",
}


SAID = {
    "type": "message",
    "id": "msg_1",
    "status": "completed",
    "role": "assistant",
    "content": [
        {"type": "output_text", "text": WORDS, "annotations": [ANNOTATION], "logprobs": []}
    ],
}


def a_message(*content: Mapping[str, Any], stop: str = "end_turn", **fields: Any) -> dict[str, Any]:
    usage = {"input_tokens": 10, "output_tokens": 5}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude"}
    return {**head, "content": list(content), "stop_reason": stop, "usage": usage, **fields}


def a_response(*output: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": "resp_1", "status": "completed", "output": list(output)}


def of_messages(*content: Mapping[str, Any], **fields: Any) -> Done:
    return messages.reply_of(a_message(*content, **fields), request_id="")


def of_responses(*output: Mapping[str, Any], chain: bool = False) -> Done:
    found = responses.reply_of(a_response(*output), chain=chain, request_id="")
    assert isinstance(found, Done)
    return found


def of_chat(**message: Any) -> Done:
    choice = {"message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return chat.reply_of({"choices": [choice]}, request_id="")


def blocks_after(parts: Sequence[Part]) -> Any:
    """Return how a reply is sent back to Anthropic."""
    history = [Message.of("user", "Which is warm?"), Message("assistant", parts)]
    body = messages.body_of(a_request(history=history, settings={"prompt_cache": "off"}))
    assert anthropic_messages.violations(body) == []
    return body["messages"][1]["content"]


def items_after(parts: Sequence[Part]) -> Any:
    """Return how a reply is sent back to the Responses API."""
    history = [Message.of("user", "Which is warm?"), Message("assistant", parts)]
    body = responses.body_of(a_request(history=history), chain=False)
    assert openai_responses.violations(body) == []
    return body["input"][1:-1]


REFUSED = {"type": "refusal", "category": "cyber", "explanation": "Of malware it does not talk."}
