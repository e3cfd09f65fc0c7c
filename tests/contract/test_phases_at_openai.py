"""What OpenAI says of its messages beside their words travels back with a history of ours."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from tests.contract.rigs import a_request
from tests.doubles.openai_server import OpenAIDouble
from tests.openai_sessions import WAIT, sound_client, vendor_at_hand
from tests.validators import openai_responses
from turnmill.domain.content import Message, Native, Part, Text, ToolCall
from turnmill_worker.providers.anthropic import messages
from turnmill_worker.providers.fitting import fitted
from turnmill_worker.providers.openai import chat, responses
from turnmill_worker.providers.port import Done

pytestmark = pytest.mark.anyio

SUMMED = {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA", "created_by": "api"}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed"}


def message(words: str, phase: str | None, **block: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "text": words, "annotations": [], **block}]
    return {"type": "message", "role": "assistant", "id": "m", "content": content, "phase": phase}


def reply(*output: dict[str, Any], chain: bool = False) -> Done:
    payload = {"id": "resp_1", "status": "completed", "output": list(output)}
    found = responses.reply_of(payload, chain=chain, request_id="")
    assert isinstance(found, Done)
    return found


def sent_again(parts: Sequence[Part]) -> list[Any]:
    """Return the items that a reply is in the next turn."""
    body = responses.body_of(a_request(history=[Message("assistant", parts)]), chain=False)
    assert openai_responses.violations(body) == []
    return [*body["input"][:-1]]


def phases(items: Sequence[Any]) -> list[tuple[str, str | None]]:
    return [
        (one["content"][0]["text"], one.get("phase"))
        if one["type"] == "message"
        else (one["type"], None)
        for one in items
    ]


def test_each_message_goes_back_as_what_it_was_said() -> None:
    found = reply(message("Let me see. ", "commentary"), SEARCH, message("Two.", "final_answer"))
    assert found.text == "Let me see. Two."
    assert phases(sent_again(found.parts)) == [
        ("Let me see. ", "commentary"),
        ("web_search_call", None),
        ("Two.", "final_answer"),
    ]


def test_words_before_a_call_are_what_they_were_too() -> None:
    found = reply(message("Let me see.", "commentary"), CALL)
    assert [type(one) for one in found.parts] == [Text, Native, ToolCall]
    words, call, _ = sent_again(found.parts)
    assert (words["phase"], call["type"]) == ("commentary", "function_call")


def test_one_that_says_where_its_words_are_from_says_this_too() -> None:
    cited = {"type": "url_citation", "url": "https://example.com", "start_index": 0, "end_index": 3}
    found = reply(message("Two.", "final_answer", annotations=[cited]))
    (item,) = sent_again(found.parts)
    assert (item["phase"], item["content"][0]["annotations"]) == ("final_answer", [cited])


@pytest.mark.parametrize("phase", [None, "", 7, ["commentary"]])
def test_a_reply_that_says_nothing_of_it_is_words_alone(phase: Any) -> None:
    assert reply(message("Two.", phase)).parts == (Text("Two."),)


def test_nothing_of_it_is_kept_where_the_vendor_keeps_the_thread() -> None:
    assert reply(message("Two.", "final_answer"), chain=True).parts == (Text("Two."),)


def test_others_are_not_told_of_it() -> None:
    found = reply(SUMMED, message("Let me see. ", "commentary"), message("Two.", "final_answer"))
    history = [Message("assistant", found.parts)]
    (_, said, _) = messages.body_of(
        fitted(a_request(history=history), name="anthropic", takes=frozenset({Text}))
    )["messages"]
    assert said == {"role": "assistant", "content": "Let me see. Two."}
    (said, _) = chat.body_of(a_request(history=history))["messages"]
    assert said == {"role": "assistant", "content": "Let me see. Two."}


def test_a_mark_whose_words_are_gone_is_left_out_and_one_of_joined_words_is_the_last() -> None:
    found = reply(message("Let me see. ", "commentary"), message("Two.", "final_answer"))
    assert phases(sent_again(found.with_text("Two").parts)) == [("Two", "final_answer")]
    marks = [one for one in found.parts if isinstance(one, Native)]
    assert sent_again(marks) == []
    assert phases(sent_again([Text(" "), marks[0], Text("Two."), marks[1]])) == [
        ("Two.", "final_answer")
    ]
    call = ToolCall(id="c1", name="f", arguments="{}")
    assert "phase" not in str(sent_again([call, marks[0]]))


def test_what_stands_for_all_before_it_goes_back_where_it_stood() -> None:
    found = reply(SUMMED, message("Two.", None))
    first, second = sent_again(found.parts)
    assert first == {name: SUMMED[name] for name in ("id", "type", "encrypted_content")}
    assert second["content"][0]["text"] == "Two."
    assert len(sent_again(reply(message("Two.", None), SUMMED).parts)) == 2
    (only,) = sent_again(reply(SUMMED).parts)
    assert only["type"] == "compaction"


@pytest.mark.parametrize("sealed", [None, "", 7])
def test_one_in_which_nothing_is_is_left_out(sealed: Any) -> None:
    found = reply(SUMMED | {"encrypted_content": sealed}, message("Two.", "final_answer"))
    assert phases(sent_again(found.parts)) == [("Two.", "final_answer")]
    item = json.dumps(SUMMED | {"encrypted_content": sealed})
    kept = Native(provider="openai", api="responses", item=item)
    assert phases(sent_again([kept, Text("Two.")])) == [("Two.", None)]


@pytest.mark.parametrize("stream", [False, True])
def test_a_session_of_ours_brings_them_back_turn_after_turn(
    monkeypatch: pytest.MonkeyPatch, *, stream: bool
) -> None:
    double = OpenAIDouble()
    double.phase = "final_answer"
    with vendor_at_hand(monkeypatch, double) as vendor, sound_client() as client:
        session = client.sessions.create(
            user_id="ada", provider="openai", model="gpt-5-mini", settings={"thread": "client"}
        )
        for text in ("One.", "Two.", "Three."):
            client.send(session, text, stream=stream).result(timeout=WAIT)
        *_, last = (one for one in vendor.double.calls if one.method == "POST")
    said = [(one["role"], one.get("phase")) for one in last.body["input"]]
    assert said == [("user", None), ("assistant", "final_answer")] * 2 + [("user", None)]
