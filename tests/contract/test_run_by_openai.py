"""What OpenAI has run within an answer, as prompts that it keeps may have it, waits for nobody."""

from typing import Any

import pytest

from turnmill_worker.providers.openai import responses
from turnmill_worker.providers.port import Done

SAID = {"type": "message", "content": [{"type": "output_text", "text": "Two."}]}
SHELL = {"type": "shell_call", "id": "sh_1", "call_id": "c1", "action": {"commands": ["ls"]}}
SHOWN = {"type": "shell_call_output", "id": "so_1", "call_id": "c1", "output": []}
SOUGHT = {"type": "tool_search_call", "id": "ts_1", "call_id": None, "execution": "server"}
LOADED: dict[str, Any] = {
    "type": "tool_search_output",
    "call_id": None,
    "execution": "server",
    "tools": [],
}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
GIVEN = {"type": "function_call_output", "call_id": "c1", "output": "x"}


def reply(*output: dict[str, Any], **given: Any) -> Done:
    payload = {"id": "resp_1", "status": "completed", "output": list(output)}
    found = responses.reply_of(payload, chain=True, request_id="", **given)
    assert isinstance(found, Done)
    return found


@pytest.mark.parametrize("ran", [(SHELL, SHOWN), (SOUGHT, LOADED)])
@pytest.mark.parametrize("thread", [None, "conv_1"])
def test_a_thread_goes_on_behind_what_the_vendor_has_run(ran: Any, thread: str | None) -> None:
    found = reply(*ran, SAID, offered=False, thread=thread)
    assert (found.thread_ref, found.finish_reason) == (thread or "resp_1", "stop")


@pytest.mark.parametrize(
    "waiting",
    [
        (SHELL,),
        (SHELL, {**SHOWN, "call_id": "c2"}),
        (SHELL, SHOWN, {**SHELL, "call_id": "c2"}),
        (SOUGHT | {"execution": "client", "call_id": "c1"},),
        (CALL, GIVEN),
        ({"type": "custom_tool_call", "call_id": None}, {"type": "custom_tool_call_output"}),
    ],
)
def test_no_thread_goes_on_where_somebody_has_to_answer(waiting: Any) -> None:
    found = reply(*waiting, SAID, offered=False)
    assert (found.thread_ref, found.finish_reason) == ("", "tool_calls")
