"""Months of some seeds, each plant alone: it is found alone, whatever the dice say."""

from collections.abc import Iterator

import pytest

from tests.planted_month import PLANTS, WINDOW, planted
from turnmill.domain.analytics.suggesting.findings import SuggestionRule
from turnmill.store.analytics.ended_turns import Scope
from turnmill.store.analytics.suggestions import suggest
from turnmill.store.database import Database
from turnmill.store.schema.revision import create_all


@pytest.fixture
def store() -> Iterator[Database]:
    store = Database("sqlite://")
    store.run(create_all)
    yield store
    store.close()


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
