"""The world outside of a worker: a file in which all that was done to it stands."""

import json
import os
from pathlib import Path
from typing import Any

#: Names the file; without it, nothing is written down.
VARIABLE = "TURNMILL_TEST_WORLD"


def note(**what: Any) -> None:
    """Write down, in one go, what has been done."""
    if path := os.environ.get(VARIABLE):
        line = json.dumps(what | {"by": os.getpid()}, default=str) + "\n"
        with Path(path).open("a") as file:
            file.write(line)


def of(path: Path) -> list[dict[str, Any]]:
    """Return all that was done."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]
