"""Broken versions of what shares lanes, each with the test that tells it from the real one."""

from tests.mutants.breaking import Mutant, instead, without
from turnmill.store.postgres import sharing
from turnmill_worker.turn import spacing
from turnmill_worker.turn.claims import Claims
from turnmill_worker.turn.crowds import Crowds
from turnmill_worker.turn.slots import Slots
from turnmill_worker.turn.spacing import Spacing

_TURNS = "tests/integration/test_users_take_turns.py"
_SHARING = "tests/contract/store/test_sharing.py"
_SLOTS = "tests/unit/test_slots.py"
_SPACING = "tests/unit/test_spacing.py"

OF_FAIRNESS: dict[str, Mutant] = {
    "hints_take_what_they_name": Mutant(
        rule="in a crowd a hint lets whose turn it is go first",
        breaks=instead(Claims, "_whose_turn", lambda self, conn, asked: ()),
        killed_by=f"{_TURNS}::test_a_hint_in_a_crowd_lets_whose_turn_it_is_go_first[asyncio]",
    ),
    "nobody_had_much": Mutant(
        rule="who had much lately waits until another one had as much",
        breaks=instead(Crowds, "_had", lambda self, lane: {}),
        killed_by=f"{_TURNS}::test_who_had_much_lately_waits_until_another_one_had_as_much[asyncio]",
    ),
    "oldest_first_in_a_crowd": Mutant(
        rule="a claim that may have left something is followed by one that asks whose turn it is",
        breaks=instead(Crowds, "was_left", lambda self, lane: False),
        killed_by=f"{_TURNS}::test_a_lane_with_more_than_there_is_room_for_is_shared[asyncio-bulk]",
    ),
    "offered_again": Mutant(
        rule="what a look has found, and was taken, is not offered again",
        breaks=instead(Crowds, "_pass_over", lambda self, lane, given, taken: None),
        killed_by=f"{_TURNS}::test_a_late_hint_in_a_crowd_takes_the_turn_of_whoever_is_next[asyncio]",
    ),
    "future_heads_count": Mutant(
        rule="who has the oldest head in the future has nothing due",
        breaks=without(
            sharing,
            "_DUE_BY_USER",
            ("WHERE head_due_at <= statement_timestamp() AND user_id <>", "WHERE user_id <>"),
        ),
        killed_by=f"{_SHARING}::test_of_those_who_are_asked_for_each_has_something_due[postgres]",
    ),
    "bulk_waits_for_ever": Mutant(
        rule="bulk gets its share though interactive turns wait for every slot",
        breaks=instead(Slots, "_kept_for_bulk", lambda self: 0),
        killed_by=f"{_SLOTS}::test_a_single_slot_goes_from_lane_to_lane[asyncio]",
    ),
    "nobody_talks": Mutant(
        rule="while somebody talks, turns of batches leave room on the loop",
        breaks=instead(Spacing, "talked", lambda self: None),
        killed_by=f"{_SPACING}::test_who_has_said_nothing_for_two_seconds_is_waited_for_no_more"
        "[asyncio]",
    ),
    "a_burst_after_a_claim": Mutant(
        rule="what a claim that took long has held up does not begin in a burst",
        breaks=instead(spacing, "_LATE_SECONDS", 3600.0),
        killed_by=f"{_SPACING}::test_a_claim_that_takes_long_is_not_made_up_for_by_a_burst[asyncio]",
    ),
}
