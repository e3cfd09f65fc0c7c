"""What is wrong with lines of a file: by number, in the vendors' own codes, the first thousand."""

from collections.abc import Iterable

from turnmill.domain.batches import LineProblem
from turnmill.domain.errors import InvalidBatchFile

#: So many are named; whoever has more of them looks at these first.
MOST = 1000
_SHOWN = 3

NO_JSON = "invalid_json_line"
TWICE = "duplicate_custom_id"
MISSING = "missing_required_parameter"
UNKNOWN = "unknown_parameter"
WRONG_TYPE = "invalid_type"
WRONG_VALUE = "invalid_value"
TOO_LONG = "string_above_max_length"
NO_SUCH_URL = "invalid_url"
NO_SESSION = "session_not_found"
UNPRICED = "price_unknown"


class Refused(Exception):
    """A line cannot be taken."""

    def __init__(self, code: str, what: str) -> None:
        super().__init__(what)
        self.code = code
        self.what = what  #: quotes nothing of the line


class Problems:
    """What was found so far."""

    def __init__(self) -> None:
        self._found: list[LineProblem] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    @property
    def are_enough(self) -> bool:
        """Tell whether no more of them will be named."""
        return len(self._found) >= MOST

    def add(self, number: int, refused: Refused) -> None:
        """Note what is wrong with a line."""
        self._found.append(LineProblem(number, refused.code, refused.what))

    def add_twice(self, numbers: Iterable[int]) -> None:
        """Note lines whose custom_id stands in a line before them."""
        for number in numbers:
            self.add(number, Refused(TWICE, "its custom_id stands in a line before it"))

    def error(self) -> InvalidBatchFile:
        """Return what says all of it."""
        found = sorted(self._found)[:MOST]
        shown = "; ".join(f"line {one.line}: {one.what}" for one in found[:_SHOWN])
        more = len(found) - _SHOWN
        return InvalidBatchFile(f"{shown}; and {more} more" if more > 0 else shown, problems=found)
