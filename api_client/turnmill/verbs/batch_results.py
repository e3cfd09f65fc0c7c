"""What the lines of a batch came to, as it is written into files and printed."""

import json
from collections.abc import Iterable
from typing import Any

from turnmill.named_file import NamedFile
from turnmill.store.codec import exported
from turnmill.store.nouns.batches import BatchResult


class ResultsFile(NamedFile):
    """A file of JSON lines."""

    lines = 0

    def write_results(self, results: Iterable[BatchResult]) -> None:
        """Add a line for each of them."""
        for result in results:
            self.write(json.dumps(as_line(result), ensure_ascii=False) + "\n")
            self.lines += 1


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
        "answered_by": result.answered_by,
        "answered_because": result.answered_because,
        "error": None if result.error_code is None else {"code": result.error_code},
    }
