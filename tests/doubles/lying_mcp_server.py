"""An MCP server that keeps to no protocol: `python lying_mcp_server.py HOW FILE`, over stdio.

It notes in the file whenever it is called. It has a tool `good`, and others that are none.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOW, NOTES = sys.argv[1], Path(sys.argv[2])
#: A search for this in a few characters never ends.
ENDLESS = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
GOOD = {"name": "good", "description": "d", "inputSchema": {}, "outputSchema": ENDLESS}
NONE = [
    None,
    7,
    {"name": 7, "inputSchema": {"type": "object"}},
    {"name": "array", "inputSchema": {"type": "array"}},
    {"name": "required", "inputSchema": {"type": "object", "required": "x"}},
    {"name": "properties", "inputSchema": {"type": "object", "properties": ["x"]}},
]


def text(words: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": words}]}


def say(line: str | bytes) -> None:
    sys.stdout.buffer.write(line if isinstance(line, bytes) else line.encode())
    sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def result(number: Any, said: Any, **more: Any) -> None:
    say(json.dumps({"jsonrpc": "2.0", "id": number, "result": said, **more}))


def error(number: Any, code: int, words: str = "no") -> None:
    about = {"code": code, "message": words}
    say(json.dumps({"jsonrpc": "2.0", "id": number, "error": about}))


def gossip(number: Any) -> None:
    """Say again what was said in the call, wherever nothing of the kind belongs."""
    words = "words of ada"
    for method, params in (
        ("notifications/progress", {"progressToken": 1, "progress": words}),
        ("notifications/message", {"level": words, "data": words}),
        ("notifications/resources/updated", {"uri": [words]}),
        ("notifications/tools/list_changed", {"_meta": words}),
        (f"notifications/{words}", {"of": words}),
    ):
        say(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}))
    asked = {"jsonrpc": "2.0", "id": words, "method": "sampling/createMessage"}
    say(json.dumps({**asked, "params": {"messages": words}}))
    say(json.dumps({"jsonrpc": "2.0", "method": 7, "params": {"of": words}}))
    say(words)
    result(number, text("ok"))


ANSWERS: dict[str, Callable[[Any], None]] = {
    "half a pair": lambda n: result(n, text("a\ud800b\0c")),
    "byte-order mark": lambda n: say("\ufeff" + json.dumps({"id": n, "result": text("ok")})),
    "wrong byte": lambda n: say(
        json.dumps({"jsonrpc": "2.0", "id": n, "result": text("caf?")})
        .encode()
        .replace(b"?", b"\xe9")
    ),
    "null": lambda n: result(n, None),
    "list": lambda n: result(n, [1]),
    "wrong error": lambda n: say(json.dumps({"id": n, "error": {"code": "x"}})),
    "endless pattern": lambda n: result(
        n, text("ok") | {"structuredContent": {"a": "a" * 40 + "b"}}
    ),
    "long line": lambda n: result(n, text("x" * 5_000_000)),
    "gossip": gossip,
    "forgotten": lambda n: error(n, -31_003),
    "not sent": lambda n: error(n, -31_001, "already paid"),
}


def answer(asked: dict[str, Any]) -> None:
    number, method = asked.get("id"), asked.get("method")
    if method == "initialize" and HOW != "mute":
        about = {
            "protocolVersion": asked["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "liar", "version": "0"},
        }
        result(number, about)
    elif method == "tools/list":
        result(number, {"tools": [*NONE, GOOD]})
    elif method == "tools/call":
        with NOTES.open("a") as notes:
            notes.write("called\n")
        ANSWERS.get(HOW, lambda n: result(n, text("ok")))(number)
    elif number is not None and HOW != "mute":
        error(number, -32_601, "no such method")


for line in sys.stdin:
    answer(json.loads(line))
