"""Months of some seeds, each plant alone: it is found alone, whatever the dice say."""

import pytest

from tests.folded import fold_all
from tests.planted_month import PLANTS, WINDOW, planted
from turnmill.domain.analytics.suggesting.findings import SuggestionRule
from turnmill.store.analytics.drawn import MOST_TURNS, draw_of
from turnmill.store.analytics.ended_turns import Scope
from turnmill.store.analytics.suggestions import suggest
from turnmill.store.database import Database


def found_in(store: Database, *rules: SuggestionRule, seed: int) -> set[tuple[SuggestionRule, str]]:
    store.run(planted(rules, seed=seed).write)
    found = store.run_single(suggest, Scope(window=WINDOW))
    return {(one.rule, one.subject) for one in found.findings}


@pytest.mark.parametrize("rule", list(PLANTS))
def test_a_plant_alone_is_found_alone(store: Database, rule: SuggestionRule) -> None:
    seed = 100 + list(SuggestionRule).index(rule)
    assert found_in(store, rule, seed=seed) == {(rule, PLANTS[rule][1])}


@pytest.mark.parametrize("seed", [21, 22, 23])
def test_a_month_in_which_nothing_is_amiss_says_nothing(store: Database, seed: int) -> None:
    assert not found_in(store, seed=seed)


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    ("rules", "seed"), [(tuple(PLANTS), 1), (tuple(PLANTS), 2), (tuple(PLANTS), 3), ((), 4)]
)
def test_of_too_many_turns_to_look_at_a_sample_says_the_same_and_nothing_else(
    store: Database, rules: tuple[SuggestionRule, ...], seed: int
) -> None:
    month = planted(rules, seed=seed)
    while month.turns <= 1.5 * MOST_TURNS:
        more = planted(rules, seed=1000 * seed + month.turns)
        more.trials.clear()  # they were made once
        month.join(more)
    store.run(month.write)
    fold_all(store)
    with store.begin() as conn:
        drawn = draw_of(conn, WINDOW)
        found = suggest(conn, Scope(window=WINDOW), drawn=drawn)
    assert drawn is not None
    assert drawn.sessions.share < 0.4
    assert {(one.rule, one.subject) for one in found.findings} == {
        (rule, PLANTS[rule][1]) for rule in rules
    }
    assert all(one.evidence and one.formula and one.says for one in found.findings)
