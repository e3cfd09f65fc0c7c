"""Broken versions of fallback, each with the test that tells it from the real one."""

from tests.mutants.breaking import Mutant, instead
from turnmill.store.line import leases
from turnmill_worker.turn import fallback

_ROWS = "tests/contract/store/test_fallback.py"
_MOVING_ON = "tests/unit/test_moving_on.py"

OF_FALLBACK = {
    "target_of_a_zombie": Mutant(
        rule="who is asked instead is noted by whoever holds the turn, and nobody else",
        breaks=instead(leases, "mark_target", lambda *_: True),
        killed_by=f"{_ROWS}::test_who_is_asked_instead_is_noted_by_whoever_holds_the_turn"
        "[postgres]",
    ),
    "benched_is_asked_again": Mutant(
        rule="a target that is benched is not asked before the others were",
        breaks=instead(fallback, "next_after", lambda target, **_: target),
        killed_by=f"{_MOVING_ON}"
        "::test_the_last_attempt_is_given_back_where_somebody_is_left_to_be_asked",
    ),
    "sent_elsewhere_unasked": Mutant(
        rule="what was lost with its worker is not taken for what its vendor has failed at",
        breaks=instead(fallback, "has_failed_there", lambda _: True),
        killed_by=f"{_MOVING_ON}"
        "::test_what_was_lost_with_its_worker_goes_to_the_same_target_again[answer1]",
    ),
}
