"""States and moves: every pair is walked, and SQL says the same as the rules."""

from itertools import product

import pytest

from turnmill.domain.states import (
    CLAIMABLE,
    FINAL,
    MOVES,
    UNFINISHED,
    TurnState,
    sources_of,
)
from turnmill.store.schema.metadata import sql_list
from turnmill.store.schema.tables import UNFINISHED_SQL

#: The chart of the design, written down a second time by hand.
CHART = {
    "queued": {"running", "cancelled", "expired"},
    "running": {
        "succeeded",
        "failed",
        "dead",
        "retrying",
        "waiting",
        "unknown",
        "queued",
        "cancelled",
        "expired",
    },
    "retrying": {"running", "cancelled", "expired"},
    "waiting": {"running", "cancelled"},
    "unknown": {"running", "cancelled"},
    "succeeded": set(),
    "failed": {"queued"},
    "dead": {"queued"},
    "cancelled": set(),
    "expired": set(),
}


@pytest.mark.parametrize(("source", "target"), list(product(TurnState, TurnState)))
def test_a_turn_moves_as_the_chart_says(source: TurnState, target: TurnState) -> None:
    allowed = target.value in CHART[source.value]
    assert (target in MOVES[source]) == allowed
    assert (source in sources_of(target)) == allowed


def test_every_state_is_final_or_holds_the_line() -> None:
    assert frozenset(TurnState) == FINAL | UNFINISHED
    assert not FINAL & UNFINISHED


def test_only_a_retry_leaves_a_final_state() -> None:
    assert {target for state in FINAL for target in MOVES[state]} == {TurnState.QUEUED}


def test_a_turn_that_ended_well_or_as_wished_never_moves_again() -> None:
    for state in (TurnState.SUCCEEDED, TurnState.CANCELLED, TurnState.EXPIRED):
        assert MOVES[state] == frozenset()


def test_only_a_running_turn_can_succeed_fail_or_die() -> None:
    for state in (TurnState.SUCCEEDED, TurnState.FAILED, TurnState.DEAD):
        assert sources_of(state) == {TurnState.RUNNING}


def test_what_waits_can_be_claimed_and_nothing_else() -> None:
    assert sources_of(TurnState.RUNNING) == CLAIMABLE
    assert UNFINISHED - {TurnState.RUNNING} == CLAIMABLE


def test_everything_unfinished_can_be_cancelled() -> None:
    assert sources_of(TurnState.CANCELLED) == UNFINISHED


def test_every_state_but_the_first_can_be_reached() -> None:
    reached, border = {TurnState.QUEUED}, {TurnState.QUEUED}
    while border:
        border = {target for state in border for target in MOVES[state]} - reached
        reached |= border
    assert reached == set(TurnState)


def test_conditions_in_sql_are_made_from_the_rules() -> None:
    assert sql_list(["b", "a"]) == "('a', 'b')"
    for state in TurnState:
        assert (f"'{state}'" in UNFINISHED_SQL) == (state in UNFINISHED)
