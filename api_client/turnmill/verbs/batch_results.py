"""What the lines of a batch came to, as it is written into files and printed."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from turnmill.store.codec import exported
from turnmill.store.nouns.batches import BatchResult


class ResultsFile:
    """A file of JSON lines that is there when it is complete, or as it was before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._file = self._part.open("w", encoding="utf-8")
        self.lines = 0

    def write(self, results: Iterable[BatchResult]) -> None:
        """Add a line for each of them."""
        for result in results:
            self._file.write(json.dumps(as_line(result), ensure_ascii=False) + "\n")
            self.lines += 1

    def finish(self) -> None:
        """Put the file where it belongs; it outlives a crash of the machine."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._part.replace(self._path)

    def close(self) -> None:
        """Leave nothing unfinished behind."""
        self._file.close()
        self._part.unlink(missing_ok=True)


def as_line(result: BatchResult) -> dict[str, Any]:
    """Return a result as it is written into files and printed."""
    return {
        "custom_id": result.custom_id,
        "turn_id": str(result.turn_id),
        "session_id": str(result.session_id),
        "state": result.state.value,
        **({"text": None} if result.parts is None else exported(result.parts)),
        "usage": {
            "input_tokens": result.input_tokens,
            "output_tokens": result.output_tokens,
            "cached_tokens": result.cached_tokens,
            "cost_usd": None if result.cost_usd is None else format(result.cost_usd, "f"),
        },
        "error": None if result.error_code is None else {"code": result.error_code},
    }
