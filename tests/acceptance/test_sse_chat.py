"""The example of a chat over SSE, as a browser uses it: cut off in the middle, it goes on."""

import asyncio
import importlib.util
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlencode

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "sse_chat" / "sse_chat.py"
WITHIN = 30.0


@pytest.fixture
def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The application, whose turns are run in this very process."""
    monkeypatch.setenv("TURNMILL_DATABASE_URL", f"sqlite:///{tmp_path / 'chat.db'}")
    spec = importlib.util.spec_from_file_location("sse_chat", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    asyncio.run(module.client.close())


async def answer(
    app: Any, method: str, path: str, *, query: str = "", headers: dict[str, str] | None = None
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield what the application sends; who stops reading has closed the connection."""
    told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    gone = asyncio.Event()
    asked = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        if (first := next(asked, None)) is not None:
            return first
        await gone.wait()
        return {"type": "http.disconnect"}

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(k.encode(), v.encode()) for k, v in (headers or {}).items()],
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
    }
    serving = asyncio.ensure_future(app(scope, receive, told.put))
    try:
        while True:
            message = await asyncio.wait_for(told.get(), WITHIN)
            yield message
            if message["type"] == "http.response.body" and not message.get("more_body"):
                return
    finally:
        gone.set()
        await asyncio.wait_for(serving, WITHIN)


async def events_of(app: Any, turn: str, last_id: str = "") -> AsyncGenerator[dict[str, str], None]:
    headers = {"last-event-id": last_id} if last_id else {}
    async with aclosing(answer(app, "GET", f"/turns/{turn}/events", headers=headers)) as sent:
        async for message in sent:
            body = message.get("body", b"").decode()
            for block in filter(None, body.split("\n\n")):
                yield dict(line.split(": ", 1) for line in block.split("\n"))


async def said_to(app: Any, text: str) -> str:
    query = urlencode({"user": "ada", "text": text, "key": text})
    async with aclosing(answer(app, "POST", "/messages", query=query)) as sent:
        start, body = [message async for message in sent][:2]
    assert start["status"] == 202
    return str(json.loads(body["body"])["turn"])


def test_a_browser_that_was_cut_off_goes_on_where_it_was(chat: ModuleType) -> None:
    async def main() -> None:
        turn = await said_to(chat.app, "Hello")
        had: list[dict[str, str]] = []
        while not (had and had[-1]["event"] == "ended"):
            last = had[-1]["id"] if had else ""
            async with aclosing(events_of(chat.app, turn, last)) as events:
                async for event in events:
                    had.append(event)
                    if len(had) % 2:
                        break  # the connection is lost
        text = "".join(json.loads(event["data"])["text"] for event in had)
        assert text == (await (await chat.client.turns.get(turn)).result(timeout=WITHIN)).text
        assert len({event["id"] for event in had}) == len(had)

    asyncio.run(main())


def test_a_second_click_sends_nothing_twice(chat: ModuleType) -> None:
    async def main() -> None:
        assert await said_to(chat.app, "Hello") == await said_to(chat.app, "Hello")

    asyncio.run(main())
