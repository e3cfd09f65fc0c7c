"""The tab behind a proxy that ends TLS, calls Flower by another name, and holds answers back."""

import http.client
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.connections.certificates import make_certificates
from tests.flower.seeds import dead_letters
from tests.flower.stage import Visitor
from turnmill import Client

_HOP_BY_HOP = {"connection", "content-length", "host", "transfer-encoding"}


def proxy(to: str) -> type[BaseHTTPRequestHandler]:
    """Return a handler that asks there, and answers when it has the whole answer."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            given = {n: v for n, v in self.headers.items() if n.lower() not in _HOP_BY_HOP}
            there = http.client.HTTPConnection(to, timeout=20)
            there.request(self.command, self.path, body, {**given, "Host": "flower.internal"})
            answer = there.getresponse()
            said = answer.read()
            there.close()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_POST = do_GET  # noqa: N815 - the name that the library calls

        def log_message(self, *_: object) -> None:
            return

    return Handler


@pytest.fixture
def outside(operator: Visitor, tmp_path: Path) -> Iterator[Visitor]:
    """Return who visits by the proxy."""
    at = urlsplit(operator.base)
    server = ThreadingHTTPServer(("127.0.0.1", 0), proxy(at.netloc))
    files = make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    trusted = ssl.create_default_context(cafile=str(files.authority))
    yield Visitor(f"https://localhost:{server.server_port}{at.path}", trusts=trusted)
    server.shutdown()
    server.server_close()
    thread.join(timeout=5)


def test_pages_and_acts_go_through_a_proxy_that_ends_tls_and_buffers(
    outside: Visitor, client: Client, store_url: str
) -> None:
    dead_letters(client, store_url, sessions=2, each=1)
    page = outside.get("/turnmill")
    assert page.status == 200
    assert 'href="/ops/turnmill' in page.text
    assert "flower.internal" not in page.text and 'href="http://' not in page.text
    form = outside.form("/turnmill/act?verb=retry&state=dead")
    origin = "https://" + urlsplit(outside.base).netloc
    forged = outside.send("/turnmill/act", form, Sec_Fetch_Site="cross-site", Origin=origin)
    assert forged.status == 403
    done = outside.send("/turnmill/act", form, Sec_Fetch_Site="same-origin", Origin=origin)
    assert done.status == 303
    assert done.headers["Location"].startswith("/ops/turnmill/acts/")
    assert outside.get("/metrics").status == outside.get("/healthcheck").status == 200
