"""A stand-in for OpenAI on a thread of its own, for tests that do not run on an event loop."""

import asyncio
import json
import threading
from concurrent.futures import Future
from typing import Any

from tests.doubles.openai_server import OpenAIDouble


class Vendor:
    """The stand-in, on a thread of its own."""

    def __init__(self, double: OpenAIDouble | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.double = OpenAIDouble() if double is None else double
        self._run(self.double.start())

    def stop(self) -> None:
        self._run(self.double.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    def requests(self, method: str, suffix: str = "") -> list[str]:
        found = [one for one in self.double.calls if one.method == method]
        return [one.path for one in found if one.path.endswith(suffix)]

    def stored_text(self) -> str:
        responses = [(one.items, one.payload) for one in self.double.kept.values()]
        conversations = self.double.conversations
        items = [conversations.items_of(ref) for ref in conversations]
        return json.dumps([responses, items, conversations.orphans])

    def asked(self) -> list[dict[str, Any]]:
        """Return the bodies of the calls that were to be answered."""
        posts = [one for one in self.double.calls if one.method == "POST"]
        return [one.body for one in posts if one.path.endswith("/responses")]

    def _run(self, work: Any) -> None:
        done: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        done.result(timeout=10)
