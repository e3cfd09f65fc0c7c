"""An MCP server over HTTP that does what a call asks for, and then says nothing of use."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: What it says to a call: a status, a type, and a body.
Said = tuple[int, str, bytes]


@contextmanager
def lying(said: Said) -> Iterator[str]:
    """Give its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            self._answer(405, "text/plain", b"")

        do_DELETE = do_GET  # noqa: N815

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if asked.get("method") == "tools/call":
                self._answer(*said)
            else:
                body = {"jsonrpc": "2.0", "id": asked.get("id"), **_result(asked)}
                status = 200 if "id" in asked else 202
                self._answer(status, "application/json", json.dumps(body).encode())

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/mcp"
        server.shutdown()
        thread.join()


def _result(asked: dict[str, Any]) -> dict[str, Any]:
    if asked.get("method") == "initialize":
        about = {"name": "liar", "version": "0"}
        version = asked["params"]["protocolVersion"]
        said = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": about}
        return {"result": said}
    if asked.get("method") == "tools/list":
        return {"result": {"tools": [{"name": "good", "inputSchema": {"type": "object"}}]}}
    return {"error": {"code": -32_601, "message": "no such method"}}
