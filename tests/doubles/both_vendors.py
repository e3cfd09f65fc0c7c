"""The stand-ins for both vendors on a thread of their own, for tests of who answers for whom."""

import asyncio
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from tests.doubles import anthropic_server, openai_server
from tests.doubles.vendor_double import Call, VendorDouble


class BothVendors:
    """To be entered: `with BothVendors() as vendors`."""

    def __init__(self) -> None:
        self.openai = openai_server.OpenAIDouble()
        self.anthropic = anthropic_server.AnthropicDouble()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "BothVendors":
        self._thread.start()
        for double in (self.openai, self.anthropic):
            self._run(double.start())
        return self

    def __exit__(self, *_: object) -> None:
        for double in (self.openai, self.anthropic):
            self._run(double.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    @property
    def environment(self) -> Mapping[str, str]:
        """What a worker is told of them."""
        return {
            "OPENAI_API_KEY": openai_server.KEY,
            "OPENAI_BASE_URL": self.openai.base_url,
            "ANTHROPIC_API_KEY": anthropic_server.KEY,
            "ANTHROPIC_BASE_URL": self.anthropic.base_url,
        }

    def of(self, name: str) -> VendorDouble:
        """Return the stand-in of this name."""
        return self.openai if name == "openai" else self.anthropic

    def asked(self, name: str) -> list[Call]:
        """Return the requests for a reply that this one got."""
        return [one for one in self.of(name).calls if one.method == "POST"]

    def forget(self) -> None:
        """Begin anew: no faults, and nothing that was asked."""
        for double in (self.openai, self.anthropic):
            double.calls.clear()
            double.always = ""
            double.window = 0
            double._script.clear()

    def _run(self, work: Any) -> None:
        done: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        done.result(timeout=10)
