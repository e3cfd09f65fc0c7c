"""The raw vendor on a thread of its own, for tests that are not asynchronous."""

import asyncio
import threading

from tests.doubles.raw_vendor import RawVendor


class VendorThread:
    """To be entered: `with VendorThread() as vendor`."""

    def __init__(self) -> None:
        self._vendor = RawVendor()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> RawVendor:
        self._thread.start()
        start = self._vendor.__aenter__()
        return asyncio.run_coroutine_threadsafe(start, self._loop).result(timeout=10)

    def __exit__(self, *_: object) -> None:
        stop = self._vendor.__aexit__()
        asyncio.run_coroutine_threadsafe(stop, self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()
