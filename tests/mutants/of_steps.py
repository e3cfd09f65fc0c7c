"""Broken versions of what goes on between the steps of a turn, each with the test that kills it."""

from tests.mutants.breaking import Mutant, instead, without
from turnmill.store.nouns import copied_steps
from turnmill.store.postgres import stepping
from turnmill_worker.turn import run
from turnmill_worker.turn.steps import Steps

_STEPPING = "tests/contract/store/test_stepping.py"
_TOOLS = "tests/integration/test_tools.py"
_ANSWERING = "tests/integration/test_answering_tools.py"


async def _nothing(*_: object) -> None: ...


OF_STEPS: dict[str, Mutant] = {
    "step_without_fence": Mutant(
        rule="a step is written by whoever holds the turn, and nobody else",
        breaks=without(stepping, "_ADVANCE", (" AND t.lease_fence = v.fence", "")),
        killed_by=f"{_STEPPING}::test_a_step_of_somebody_who_has_lost_the_turn_changes_nothing"
        "[postgres]",
    ),
    "step_against_the_will": Mutant(
        rule="a turn that somebody wants to end takes no further step",
        breaks=without(stepping, "_ADVANCE", ("AND NOT t.cancel_requested", "")),
        killed_by=f"{_STEPPING}::test_a_turn_that_somebody_wants_to_end_takes_no_further_step"
        "[postgres]",
    ),
    "step_costs_an_attempt": Mutant(
        rule="a step that was finished costs no attempt",
        breaks=without(
            stepping, "_ADVANCE", ("ELSE t.attempt END", "ELSE LEAST(t.attempt + 1, 2) END")
        ),
        killed_by=f"{_STEPPING}::test_a_finished_step_costs_no_attempt_and_a_failed_one_does"
        "[postgres]",
    ),
    "once_begun_again": Mutant(
        rule="what may be done once at most is never begun again",
        breaks=without(stepping, "_BEGIN", ("c.effects <> 'at_most_once'", "true")),
        killed_by=f"{_STEPPING}::test_a_call_that_was_begun_is_begun_again"
        "_unless_it_may_happen_once_only[postgres-at_most_once]",
    ),
    "begun_by_a_zombie": Mutant(
        rule="a call is begun by whoever holds the turn, and nobody else",
        breaks=without(
            stepping,
            "_BEGIN",
            (" AND t.lease_fence = o.fence", ""),
            (" AND held.lease_fence = told.fence", ""),
        ),
        killed_by=f"{_STEPPING}::test_a_call_is_not_begun_by_somebody_who_has_lost_the_turn"
        "[postgres]",
    ),
    "output_of_a_zombie": Mutant(
        rule="an output is written by whoever holds the turn, and nobody else",
        breaks=without(
            stepping,
            "_END",
            (" AND t.lease_fence = o.fence", ""),
            (" AND held.lease_fence = told.fence", ""),
        ),
        killed_by=f"{_STEPPING}::test_an_output_of_somebody_who_has_lost_the_turn_is_not_written"
        "[postgres]",
    ),
    "calls_not_given_up": Mutant(
        rule="what a retried turn takes along is run by one of those that are made of it",
        breaks=instead(copied_steps, "_give_up", lambda *_: None),
        killed_by=f"{_STEPPING}::test_what_a_retried_turn_takes_along_is_run_by_one_of_two"
        "_that_are_made_of_it[postgres]",
    ),
    "any_form_is_asked_for": Mutant(
        rule="a form to which no reply can be held is refused before anybody is asked",
        breaks=instead(Steps, "_require", _nothing),
        killed_by=f"{_TOOLS}::test_a_form_that_is_no_schema_fails_the_turn_before_anybody_is_asked"
        "_or_paid[{'pattern': '(?=a)'}]",
    ),
    "begun_again_after_an_approval": Mutant(
        rule="who reads along is not told that all is void when a model goes on",
        breaks=instead(run, "_begins_step", lambda claim: None),
        killed_by=f"{_ANSWERING}::test_who_reads_along_sees_the_model_go_on_after_an_approval"
        "_and_nothing_void",
    ),
}
