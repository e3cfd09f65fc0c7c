"""Broken versions of what keeps figures, each with the test that tells it from the real one."""

from typing import Any

import pytest
from sqlalchemy import select

from tests.mutants.breaking import Mutant, instead
from turnmill.store.analytics import folding
from turnmill.store.line import removing
from turnmill.store.rules import figures
from turnmill.store.schema.rollup_tables import rollup_state

_FOLDING = "tests/contract/store/test_folding.py"


def _held_by_nobody(conn: Any) -> Any:
    return conn.execute(select(rollup_state)).one()


def _with_every_ending(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(folding, "_MAY_RUN_AGAIN", [])
    patch.setattr(folding, "_adding", folding._adding.__wrapped__)


OF_FIGURES = {
    "folded_by_two": Mutant(
        rule="one folds at a time: whoever comes second finds what the first has done",
        breaks=instead(folding, "_held", _held_by_nobody),
        killed_by=f"{_FOLDING}::test_who_folds_at_the_same_time_waits_and_counts_nothing_again"
        "[postgres]",
    ),
    "added_with_every_ending": Mutant(
        rule="a turn that ran again is added with its last ending",
        breaks=_with_every_ending,
        killed_by=f"{_FOLDING}::test_a_turn_that_ran_again_is_added_with_its_last_ending_and_once"
        "[postgres]",
    ),
    "gone_with_its_figures": Mutant(
        rule="what turns came to is kept when their rows go",
        breaks=instead(removing, "keep_figures", lambda *_: None),
        killed_by=f"{_FOLDING}::test_what_a_session_came_to_stays_when_it_goes_before_it_is_folded_in"
        "[postgres]",
    ),
    "changed_unmarked": Mutant(
        rule="whatever changes an ending that is in marks its slot",
        breaks=instead(figures, "mark_slots", lambda *_: None),
        killed_by=f"{_FOLDING}::test_what_a_session_came_to_stays_when_it_goes_before_it_is_folded_in"
        "[postgres]",
    ),
    "kept_row_by_row": Mutant(
        rule="what is kept of turns that are gone is a few rows of each line",
        breaks=instead(folding, "_join_gone", lambda *_: None),
        killed_by=f"{_FOLDING}::test_what_is_kept_of_turns_that_are_gone_is_a_few_rows_of_each_line"
        "[postgres]",
    ),
}
