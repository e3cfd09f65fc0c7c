"""How numbers read in a terminal."""

import pytest

from turnmill.show.wording import count


@pytest.mark.parametrize(
    ("number", "read"), [(0, "0 turns"), (1, "1 turn"), (2, "2 turns"), (1234, "1,234 turns")]
)
def test_what_is_counted_reads_as_one_or_many(number: int, read: str) -> None:
    assert count(number, "turn") == read
