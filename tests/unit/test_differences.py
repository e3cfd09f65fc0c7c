"""Differences are told with how sure they are: intervals hold as often as they say."""

import random
from math import nan

import pytest

from turnmill.domain.analytics.differences import (
    FEWEST,
    Cluster,
    always,
    between,
    paired,
    proportion_of,
    t_quantile,
)


@pytest.mark.parametrize(
    ("df", "found"),
    [(1, 12.706), (2, 4.303), (5, 2.571), (10, 2.228), (30, 2.042), (100, 1.984), (10**6, 1.960)],
)
def test_students_t_is_that_of_the_tables(df: int, found: float) -> None:
    assert t_quantile(df) == pytest.approx(found, abs=0.0006)


def test_nothing_is_compared_with_nothing() -> None:
    shown = paired([])
    assert (shown.n, shown.difference, shown.low) == (0, None, None)
    assert not shown.is_clear
    assert (shown.share, proportion_of([]).mean) == (None, None)
    one_sided = between([], [Cluster(1, 1)])
    assert (one_sided.before, one_sided.after, one_sided.difference) == (None, 1, None)


def test_few_users_make_no_interval_however_many_turns_they_have() -> None:
    shown = paired((n % (FEWEST - 1), 1.0, 2.0 + n) for n in range(100))
    assert (shown.n, shown.clusters, shown.low) == (100, FEWEST - 1, None)


def test_an_interval_of_pairs_holds_in_19_of_20_cases_though_turns_of_a_user_are_alike() -> None:
    chance = random.Random(7)
    held = naive = 0
    for _ in range(400):
        pairs: list[tuple[object, float, float]] = []
        flat: list[tuple[object, float, float]] = []
        for user in range(20):
            own = chance.gauss(0, 1)
            for _ in range(chance.randint(1, 12)):
                after = own + chance.gauss(0.5, 1)
                pairs.append((user, 0.0, after))
                flat.append((len(flat), 0.0, after))
        found, wrong = paired(pairs), paired(flat)
        held += (found.low or nan) <= 0.5 <= (found.high or nan)
        naive += (wrong.low or nan) <= 0.5 <= (wrong.high or nan)
    assert held / 400 > 0.9
    assert naive / 400 < 0.85  # as if each turn told something new


def test_a_share_stays_between_0_and_1_and_is_no_point_where_all_are_alike() -> None:
    shown = proportion_of((n, 1.0) for n in range(20))
    assert shown.mean == shown.high == 1.0
    assert 0.7 < (shown.low or 0) < 0.95
    alike = proportion_of((n % 4, 1.0) for n in range(200))
    assert (alike.low or 0) < 0.6  # four users are no two hundred


def test_an_interval_of_a_share_holds_in_19_of_20_cases() -> None:
    chance = random.Random(3)
    held = 0
    for _ in range(400):
        found = proportion_of((n, float(chance.random() < 0.9)) for n in range(60))
        held += (found.low or nan) <= 0.9 <= (found.high or nan)
    assert held / 400 > 0.92


def test_who_looks_again_and_again_is_seldom_told_of_a_difference_that_is_none() -> None:
    chance = random.Random(11)
    fooled = fooled_by_one_look = 0
    for _ in range(200):
        sides: tuple[list[Cluster], list[Cluster]] = ([], [])
        seen = once = False
        for n in range(1, 301):
            sides[chance.random() < 0.5].append(Cluster(chance.expovariate(1), 1))
            if n % 10:
                continue
            found = between(*sides)
            if found.low is None or found.difference is None or found.high is None:
                continue
            seen = seen or found.is_clear
            error = (found.high - found.difference) / always(n)
            once = once or abs(found.difference) > 1.96 * error
        fooled += seen
        fooled_by_one_look += once
    assert fooled / 200 <= 0.06
    assert fooled_by_one_look / 200 > 0.15


@pytest.mark.parametrize(
    ("usual", "other", "share"),
    [(0.01, 0.01, 0.1), (0.03, 0.03, 0.05), (0.0, 0.03, 0.5), (0.05, 0.01, 0.5), (0.01, 0.05, 0.1)],
)
def test_few_of_whom_nothing_has_failed_yet_are_no_proof_that_nothing_does(
    usual: float, other: float, share: float
) -> None:
    chance = random.Random(13)
    missed = 0
    for _ in range(100):
        sides: tuple[list[Cluster], list[Cluster]] = ([], [])
        missing = False
        for n in range(1, 801):
            is_other = chance.random() < share
            turns = chance.randint(1, 6)
            rate = other if is_other else usual
            failed = sum(chance.random() < rate for _ in range(turns))
            sides[is_other].append(Cluster(failed, turns))
            if n % 80:
                continue
            found = between(*sides, within=(0, 1))
            if found.low is not None and found.high is not None:
                missing = missing or not found.low <= other - usual <= found.high
        missed += missing
    assert missed <= 5


@pytest.mark.parametrize(
    ("users", "usual", "other"), [((200, 200), 0.02, 0.2), ((200, 20), 0.05, 0.3)]
)
def test_intervals_hold_where_few_send_most_and_all_of_one_s_turns_fail_together(
    users: tuple[int, int], usual: float, other: float
) -> None:
    chance = random.Random(23)

    def user(rate: float) -> Cluster:
        turns = min(200, int(chance.paretovariate(1.3)))
        return Cluster(turns * (chance.random() < rate), turns)

    missed = 0
    for _ in range(100):
        before = [user(usual) for _ in range(users[0])]
        after = [user(other) for _ in range(users[1])]
        looks = [
            between(before[: users[0] * n // 10], after[: users[1] * n // 10], within=(0, 1))
            for n in range(1, 11)
        ]
        missed += any(
            found.low is not None
            and found.high is not None
            and not found.low <= other - usual <= found.high
            for found in looks
        )
    assert missed <= 5


def test_what_gets_better_from_below_nothing_is_not_told_as_a_share_of_it() -> None:
    before, after = ([Cluster(score, 1)] * FEWEST for score in (-0.5, 0.5))
    found = between(before, after, within=(-1, 1))
    assert (found.difference, found.share) == (1.0, None)
    assert between(after, before, within=(-1, 1)).share == -2.0


def test_shares_differ_by_no_more_than_all() -> None:
    few = [Cluster(n % 2, 1) for n in range(FEWEST)]
    found = between(few, few, within=(0, 1))
    assert (found.low, found.high) == (-1, 1)
    assert not found.is_clear


@pytest.mark.parametrize("share", [0.5, 0.1, 0.05])
def test_few_of_whom_none_was_dear_yet_are_no_proof_that_none_is(share: float) -> None:
    chance = random.Random(17)
    fooled = 0
    for _ in range(100):
        sides: tuple[list[Cluster], list[Cluster]] = ([], [])
        seen = False
        for n in range(1, 801):
            sides[chance.random() < share].append(Cluster(chance.lognormvariate(0, 1.5), 1))
            seen = seen or (n % 80 == 0 and between(*sides).is_clear)
        fooled += seen
    assert fooled <= 5


def test_a_difference_that_is_there_is_found() -> None:
    chance = random.Random(5)
    before = [Cluster(chance.gauss(10, 2), 1) for _ in range(100)]
    after = [Cluster(chance.gauss(12, 2), 1) for _ in range(100)]
    found = between(before, after)
    assert found.is_clear
    assert (found.low or 0) < 2 < (found.high or 0)
    assert found.share == pytest.approx(0.2, abs=0.06)
