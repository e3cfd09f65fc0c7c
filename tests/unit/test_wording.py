"""How numbers read in a terminal."""

import pytest

from turnmill.domain.analytics.share_words import share_words
from turnmill.show.wording import count, percent


@pytest.mark.parametrize(
    ("number", "read"), [(0, "0 turns"), (1, "1 turn"), (2, "2 turns"), (1234, "1,234 turns")]
)
def test_what_is_counted_reads_as_one_or_many(number: int, read: str) -> None:
    assert count(number, "turn") == read


@pytest.mark.parametrize("hundredths", range(101))
def test_a_share_of_so_many_hundredths_reads_as_so_many_percent(hundredths: int) -> None:
    assert percent(hundredths / 100) == f"{hundredths} %"


@pytest.mark.parametrize(
    ("share", "read"), [(None, ""), (0.9999999999999, "99 %"), (0.005, "0 %"), (0.298, "29 %")]
)
def test_a_share_that_is_less_reads_as_less(share: float | None, read: str) -> None:
    assert percent(share) == read


@pytest.mark.parametrize(
    ("share", "read"),
    [
        (0, "0.0 %"),
        (1.0, "100.0 %"),
        (0.0004, "0.04 %"),
        (-0.0004, "-0.04 %"),
        (0.018, "1.8 %"),
        (0.9996, "99.96 %"),
        (-0.99996, "-99.996 %"),
        (1e-12, "0.000000 %"),
    ],
)
def test_nothing_and_all_are_read_of_nothing_else(share: float, read: str) -> None:
    assert share_words(share) == read
