"""A provider's connections: kept from call to call on one loop, and made anew on another."""

import asyncio
import gc
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.forked import forked
from turnmill_worker.providers.http import Vendor


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with the address of the client: one for each connection."""
        body = str(self.client_address[1]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        vendor = Vendor(base_url=f"http://127.0.0.1:{server.server_port}", headers=dict)
        yield vendor
        server.shutdown()


async def connections(vendor: Vendor) -> set[bytes]:
    """Call twice; return the connections that were used."""
    return {(await vendor.call("GET", "")).body for _ in range(2)}


# What is left of a closed loop is closed when it is collected, and says so.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_connections_are_kept_on_a_loop_and_made_anew_on_the_next_and_in_a_child(
    vendor: Vendor,
) -> None:
    first = asyncio.run(connections(vendor))
    second = asyncio.run(connections(vendor))
    child = forked(lambda: asyncio.run(connections(vendor)))
    assert [len(each) for each in (first, second, child)] == [1, 1, 1]
    assert len(first | second | child) == 3
    asyncio.run(vendor.aclose())
    gc.collect()
