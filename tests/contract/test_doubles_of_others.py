"""Conversations with tools at a double that others have written: llmock, with each vendor's API."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from llmock.testing import LLMockServer

from turnmill import Client, tool
from turnmill.domain.states import TurnState
from turnmill.testing import memory_client

WAIT = 30
TALKS = [
    ("openai", {}),
    ("openai", {"thread": "client"}),
    ("openai", {"api": "chat"}),
    ("anthropic", {}),
]


@tool(effects="none")
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"sunny in {city}"


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    with LLMockServer() as server:
        for vendor in ("openai", "anthropic"):
            monkeypatch.setitem(os.environ, f"{vendor.upper()}_API_KEY", "sk-of-a-double")
            url = server.base_url(vendor)
            monkeypatch.setitem(os.environ, f"{vendor.upper()}_BASE_URL", url)
        with memory_client(tools=[weather]) as made:
            yield made


@pytest.mark.long
@pytest.mark.parametrize(("vendor", "settings"), TALKS, ids=str)
def test_a_conversation_with_tools_goes_on_at_a_double_of_others(
    client: Client, vendor: str, settings: dict[str, Any]
) -> None:
    session = client.sessions.create(
        user_id="ada", provider=vendor, model="m-1", settings=settings, tools=[weather]
    )
    for said in ("What is the weather in Rome?", "And tomorrow?", "Thanks."):
        turn = client.send(session, said)
        assert turn.result(timeout=WAIT).text
        assert turn.refresh().state is TurnState.SUCCEEDED
    made = [call for one in client.turns.list(session=session) for call in one.tool_calls()]
    assert [call.state for call in made] == ["done"] * len(made)
    assert made
