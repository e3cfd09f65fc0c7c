"""Identifiers sort by the time of their creation."""

import time
from itertools import pairwise
from uuid import RFC_4122

from hypothesis import given
from hypothesis import strategies as st

from tests.forked import forked
from turnmill.domain.ids import uuid7
from turnmill.new_ids import new_id

millis = st.integers(0, 2**48 - 1)
bits = st.integers(0, 2**74 - 1)


@given(unix_ms=millis, random_bits=bits)
def test_an_id_is_a_uuid_of_version_7(unix_ms: int, random_bits: int) -> None:
    made = uuid7(unix_ms=unix_ms, random_bits=random_bits)
    assert (made.version, made.variant) == (7, RFC_4122)


@given(unix_ms=millis, random_bits=bits)
def test_an_id_holds_its_time_and_every_random_bit(unix_ms: int, random_bits: int) -> None:
    made = uuid7(unix_ms=unix_ms, random_bits=random_bits).int
    assert made >> 80 == unix_ms
    assert ((made >> 64) & 0xFFF) << 62 | made & (2**62 - 1) == random_bits


@given(first=millis, second=millis, bits_of_first=bits, bits_of_second=bits)
def test_ids_sort_by_time(first: int, second: int, bits_of_first: int, bits_of_second: int) -> None:
    one = uuid7(unix_ms=first, random_bits=bits_of_first)
    other = uuid7(unix_ms=second, random_bits=bits_of_second)
    assert (one < other) == (first < second or (first == second and bits_of_first < bits_of_second))


def test_an_example_of_the_standard_is_made_as_it_says() -> None:
    """RFC 9562, appendix A.6."""
    rand_a, rand_b = 0xCC3, 0x18C4DC0C0C07398F
    made = uuid7(unix_ms=0x017F22E279B0, random_bits=rand_a << 62 | rand_b)
    assert str(made) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


def test_new_ids_are_of_now_and_differ() -> None:
    before = time.time_ns() // 1_000_000
    made = [new_id() for _ in range(1000)]
    after = time.time_ns() // 1_000_000
    assert len(set(made)) == len(made)
    stamps = [one.int >> 80 for one in made]
    assert all(before <= stamp <= after for stamp in stamps)
    assert all(one <= other for one, other in pairwise(stamps))


def test_a_forked_child_makes_other_ids_than_its_parent() -> None:
    def dice() -> set[int]:
        return {new_id().int & (2**62 - 1) for _ in range(300)}

    dice()  # some are left for the next ones
    assert not forked(dice) & dice()
