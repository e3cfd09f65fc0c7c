"""What is suggested of a month: each of the things that were put into it, and nothing else."""

import pytest

from tests.planted_month import PLANTS, WINDOW, planted
from turnmill.domain.analytics.suggesting.findings import Rule, Suggestion
from turnmill.store.analytics.ended_turns import Scope
from turnmill.store.analytics.suggestions import suggest
from turnmill.store.database import Database


def suggested(store: Database, *rules: Rule, seed: int = 1, **scope: str) -> Suggestion:
    with store.begin() as conn:
        planted(rules, seed=seed).write(conn)
    with store.begin() as conn:
        return suggest(conn, Scope(window=WINDOW))


def test_eleven_plants_are_found_and_nothing_else(store: Database) -> None:
    found = suggested(store, *PLANTS)
    assert {(one.rule, one.subject) for one in found.findings} == {
        (rule, subject) for rule, (_, subject) in PLANTS.items()
    }


def test_nothing_is_suggested_of_a_month_in_which_nothing_is_amiss(store: Database) -> None:
    assert suggested(store).findings == []


@pytest.mark.parametrize("rule", list(Rule))
def test_a_plant_alone_is_found_alone(store: Database, rule: Rule) -> None:
    found = suggested(store, rule)
    assert [(one.rule, one.subject) for one in found.findings] == [(rule, PLANTS[rule][1])]
