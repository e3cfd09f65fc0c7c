"""Files of batches, as somebody writes them who submits one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Writes lines into a file; returns where it is.
Write = Callable[..., Path]


def writing(folder: Path) -> Write:
    """Return what writes a file in the folder: a line that is a text as it stands, else as JSON."""

    def write(*lines: dict[str, Any] | str, name: str = "jobs.jsonl") -> Path:
        path = folder / name
        texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
        path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        return path

    return write


def hello(number: int, **fields: Any) -> dict[str, Any]:
    """Return a line of a user of its own."""
    return {"custom_id": f"line-{number}", "user_id": f"user-{number}", "text": "hi"} | fields
