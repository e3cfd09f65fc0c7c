"""Conversations with tools at aimock, which others have written, for both vendors; streamed, too.

It holds Anthropic's rule of thinking (a turn that goes on after a tool begins with its signed
thoughts) and refuses what breaks it. It is a package of npm, and not fetched by a test:

    npm pack @copilotkit/aimock && tar xzf copilotkit-aimock-*.tgz
    AIMOCK_CLI_PATH=package/dist/cli.js python -m pytest -m long tests/contract/test_aimock.py
"""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from turnmill import Client, tool
from turnmill.testing import memory_client
from turnmill_worker.stack.process import wait_until

WAIT = 30
ANSWER = "It is sunny in Rome — 🌞 as the tool said."
CALLS = [{"name": "weather", "arguments": {"city": city}} for city in ("Rome", "Oslo")]
SAYS = {
    "fixtures": [
        {"match": {"hasToolResult": True}, "response": {"content": ANSWER}},
        {
            "match": {"userMessage": "weather"},
            "response": {"reasoning": "I am to ask.", "toolCalls": CALLS},
        },
        {"match": {"userMessage": "Thanks"}, "response": {"content": "You are welcome."}},
    ]
}
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
TALKS: list[tuple[str, str, dict[str, Any]]] = [
    ("openai", "gpt-5", {}),
    ("openai", "gpt-5", {"thread": "client"}),
    ("openai", "gpt-5", {"api": "chat"}),
    ("anthropic", "claude-sonnet-4-5", {}),
    ("anthropic", "claude-sonnet-4-5", THINKING),
]


@tool(effects="none")
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"sunny in {city}"


@pytest.fixture(scope="module")
def aimock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return where it listens. It hands out three characters at a time."""
    node, program = shutil.which("node"), os.environ.get("AIMOCK_CLI_PATH")
    if node is None or program is None:
        pytest.skip("needs node, and AIMOCK_CLI_PATH")
    says = tmp_path_factory.mktemp("aimock") / "says.json"
    says.write_text(json.dumps(SAYS))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [node, program, "-p", str(port), "-f", str(says), "--strict", "-c", "3"]
    with subprocess.Popen([*command, "--log-level", "silent"]) as running:
        try:
            assert wait_until(lambda: _listens(port), timeout=timedelta(seconds=20))
            yield f"http://127.0.0.1:{port}"
        finally:
            running.terminate()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def client(aimock: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    for vendor, path in (("OPENAI", "/v1"), ("ANTHROPIC", "")):
        monkeypatch.setenv(f"{vendor}_API_KEY", "sk-of-a-double")
        monkeypatch.setenv(f"{vendor}_BASE_URL", aimock + path)
    with memory_client(tools=[weather]) as made:
        yield made


@pytest.mark.long
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("vendor", "model", "settings"), TALKS, ids=str)
def test_a_conversation_with_tools_goes_on_at_aimock(
    client: Client, vendor: str, model: str, settings: dict[str, Any], stream: bool
) -> None:
    session = client.sessions.create(
        user_id="ada", provider=vendor, model=model, settings=settings, tools=[weather]
    )
    for text, answer, calls in (
        ("What is the weather in Rome?", ANSWER, 2),
        ("And the weather tomorrow?", ANSWER, 2),
        ("Thanks.", "You are welcome.", 0),
    ):
        turn = client.send(session, text, stream=stream)
        assert turn.result(timeout=WAIT).text == answer
        assert [call.state for call in turn.tool_calls()] == ["done"] * calls
        assert [one.error_code for one in turn.attempts()] == [None] * (2 if calls else 1)
