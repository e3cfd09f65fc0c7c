"""Broken versions of what keeps money, each with the test that tells it from the real one."""

from typing import Any

import pytest

from tests.mutants.breaking import Mutant, instead, without
from turnmill.store.budget_records import Found, Reserved
from turnmill.store.line import charges, leases
from turnmill.store.postgres import batching, charging, settling, stepping
from turnmill_worker.layers.holding import Holding
from turnmill_worker.native import reserving, taking
from turnmill_worker.turn import verdict

_BUDGETS = "tests/contract/store/test_budgets.py"
_IN_TIME = "tests/contract/store/test_budgets_in_time.py"
_LAYER = "tests/unit/test_budget_layer.py"
_LOCKS = "tests/integration/test_lock_orders_of_batches.py"
_AT_VENDORS = "tests/integration/test_budgets_of_native_batches.py"


def _unpaid(patch: pytest.MonkeyPatch) -> None:
    for name in ("_SETTLE_PAID", "_SETTLE_PAID_STEPPED"):
        patch.setattr(settling, name, settling._SETTLE_STEPPED)


def _settling(*change: str) -> Any:
    def apply(patch: pytest.MonkeyPatch) -> None:
        for name in ("_SETTLE_PAID", "_SETTLE_PAID_STEPPED"):
            without(settling, name, (change[0], change[1]))(patch)

    return apply


# What the database's function does, in the statement, where a test can break it.
_CALL = charging.part(verdicts="v").partition("SELECT turnmill.budgets_charge(")[2]
_CALL = "SELECT turnmill.budgets_charge(" + _CALL.partition(" FROM (")[0].rstrip()
_HAVING = ") AS x HAVING count(*) > 0"


def _charging(*, noted: str, of_period: str) -> Any:
    sums = ", ".join(
        f"{name}_usd = b.{name}_usd {'-' if name == 'reserved' else '+'} x.{name}"
        for name in ("reserved", "spent", "estimated")
    )
    within = f"UPDATE turnmill.budgets b SET {sums}, last_turn_id = x.turn_id{noted}"
    where = f") AS x WHERE b.id = x.budget_id{of_period} RETURNING b.id AS budgets_charge"

    def apply(patch: pytest.MonkeyPatch) -> None:
        _settling(_CALL, within)(patch)
        _settling(_HAVING, where)(patch)

    return apply


OF_BUDGETS: dict[str, Mutant] = {
    "reserved_for_ever": Mutant(
        rule="what is reserved comes back with the verdict",
        breaks=_unpaid,
        killed_by=f"{_BUDGETS}::test_what_a_call_may_cost_is_reserved_and_what_it_did_is_charged"
        "[postgres]",
    ),
    "reserved_without_fence": Mutant(
        rule="money is reserved by whoever holds the turn, and nobody else",
        breaks=without(
            charging,
            "_OF_CLAIMS",
            ("t.lease_fence = a.fence AND ", ""),
            (" AND (t.state || '') = 'running'", ""),
        ),
        killed_by=f"{_BUDGETS}::test_who_lost_the_turn_reserves_nothing[postgres]",
    ),
    "group_lets_all_through": Mutant(
        rule="calls of one group line up in their budget",
        breaks=without(
            charging, "_OF_CLAIMS", ("of_turn OR room >= sum(more)", "room >= min(more)")
        ),
        killed_by=f"{_BUDGETS}::test_a_group_takes_what_fits_and_no_call_is_in_the_way_of_a"
        "_smaller_one[postgres]",
    ),
    "reservations_do_not_count": Mutant(
        rule="what is reserved is spent, for whoever comes next",
        breaks=without(
            charging, "_OF_CLAIMS", ("GREATEST(unspent - reserved, 0)", "GREATEST(unspent, 0)")
        ),
        killed_by=f"{_BUDGETS}::test_a_call_that_fits_but_for_reservations_waits_for_them_a_little"
        "[postgres]",
    ),
    "one_budget_is_enough": Mutant(
        rule="a call fits into all budgets of its turn",
        breaks=without(
            charging,
            "_OF_CLAIMS",
            ("bool_and(COALESCE(more <= room", "bool_or(COALESCE(more <= room"),
            ("bool_and(fits_in)", "bool_or(fits_in)"),
        ),
        killed_by=f"{_BUDGETS}::test_a_call_has_to_fit_into_every_budget_of_its_turn[postgres]",
    ),
    "lost_for_nothing": Mutant(
        rule="what a lost worker had reserved is charged as an estimate",
        breaks=instead(leases, "charge_lost", lambda *_: None),
        killed_by=f"{_BUDGETS}::test_what_a_lost_worker_had_reserved_is_charged_as_an_estimate"
        "[postgres]",
    ),
    "estimates_for_ever": Mutant(
        rule="a check that tells the truth takes an estimate back",
        breaks=_settling("OR v.reconciles AND", "OR false AND"),
        killed_by=f"{_BUDGETS}::test_work_in_the_background_is_an_estimate_until_it_is_done"
        "[postgres]",
    ),
    "steps_for_nothing": Mutant(
        rule="each step is charged as it comes",
        breaks=lambda patch: patch.setattr(stepping, "_ADVANCE_PAID", stepping._ADVANCE),
        killed_by=f"{_BUDGETS}::test_each_step_is_charged_as_it_comes[postgres]",
    ),
    "late_calls_in_the_new_period": Mutant(
        rule="a call is charged to the period that it was reserved in",
        breaks=_charging(
            noted=", wake_until = CASE WHEN b.spent_usd + x.spent >= b.tell_usd"
            " THEN now() ELSE b.wake_until END",
            of_period="",
        ),
        killed_by=f"{_IN_TIME}::test_a_period_that_is_over_begins_anew_and_late_calls_are_charged"
        "_to_the_one_before[postgres]",
    ),
    "shares_are_noted_by_nobody": Mutant(
        rule="whoever spends a share of a limit notes that somebody is to be told",
        breaks=_charging(noted="", of_period=" AND b.n = x.period"),
        killed_by=f"{_IN_TIME}::test_each_share_of_a_limit_is_told_of_once_a_period[postgres]",
    ),
    "nothing_is_owed": Mutant(
        rule="a claim owes for its calls before the last",
        breaks=instead(Holding, "owes", lambda self: None),
        killed_by=f"{_LAYER}::test_a_claim_owes_for_its_calls_before_the_last[asyncio]",
    ),
    "lines_hold_nothing": Mutant(
        rule="a line of a vendor's batch is reserved before the vendor is asked for it",
        breaks=instead(
            charging, "reserve_lines", lambda _, asks, **__: [Reserved(Found.FREE) for _ in asks]
        ),
        killed_by=f"{_AT_VENDORS}::test_lines_hold_what_they_may_cost_for_as_long_as_their_vendor"
        "_has_them[asyncio-openai]",
    ),
    "lines_hold_for_ever": Mutant(
        rule="what lines hold that were never run comes back with the end of their shard",
        breaks=instead(charging, "give_back", lambda *_: None),
        killed_by=f"{_AT_VENDORS}::test_what_no_vendor_was_asked_for_is_given_back[asyncio]",
    ),
    "lines_charged_to_none": Mutant(
        rule="a line that was answered is charged, whether or not its budgets hold anything for it",
        breaks=without(
            charging, "_NOTE", ("WHERE COALESCE(b.id, m.turn_id) = m.id", "WHERE false")
        ),
        killed_by=f"{_AT_VENDORS}::test_a_budget_that_was_set_since_is_charged_even_beyond_its_limit"
        "[asyncio-openai]",
    ),
    "lines_locked_as_found": Mutant(
        rule="who moves lines of a shard and holds no session locks them in the order of their ids",
        breaks=without(
            batching, "_PUT_OFF", ("ORDER BY t.id FOR NO KEY UPDATE", "FOR NO KEY UPDATE")
        ),
        killed_by=f"{_LOCKS}::test_turns_of_a_shard_are_moved_in_the_order_of_their_ids"
        "[asyncio-put_off]",
    ),
    "budgets_locked_in_parts": Mutant(
        rule="all budgets that results are charged to are locked at once, and in one order",
        breaks=without(
            charging, "_NOTE", ("UNION SELECT c.budget_id", "EXCEPT SELECT c.budget_id")
        ),
        killed_by=f"{_LOCKS}::test_lines_are_charged_in_one_order_to_budgets_that_bound_them_and_do"
        "[asyncio]",
    ),
    "twins_are_free": Mutant(
        rule="what a vendor's second batch of the same lines has run is paid for",
        breaks=instead(reserving, "note_twin", lambda *_, **__: None),
        killed_by="tests/integration/test_batches_begun_twice.py::test_what_a_twin_had_run_before_it"
        "_was_cancelled_is_a_cost_of_its_batch[asyncio]",
    ),
    "paid_only_in_full": Mutant(
        rule="what a vendor has counted of a call that came to nothing is paid for",
        breaks=instead(verdict, "used_by", lambda _: None),
        killed_by="tests/unit/test_cut_calls.py::test_what_a_vendor_has_counted_of_a_call_in_vain_is"
        "_what_it_has_used[asyncio-pieces0-error0]",
    ),
    "lines_paid_only_in_full": Mutant(
        rule="what a vendor has counted of a line that came to nothing is paid for",
        breaks=instead(taking, "used_by", lambda _: None),
        killed_by=f"{_AT_VENDORS}::test_lines_that_failed_while_they_were_answered_are_charged_as"
        "_they_were_counted[asyncio]",
    ),
    "a_budget_holds_all_up": Mutant(
        rule="who holds a budget for long holds up nobody who has none",
        breaks=without(
            charging,
            "_OF_CLAIMS",
            (" AND (SELECT set_config('lock_timeout', '250', true)) <> ''", ""),
        ),
        killed_by="tests/integration/test_budget_races.py::test_who_holds_a_budget_for_long_holds_up"
        "_nobody_who_has_none[asyncio]",
    ),
    "left_for_everybody": Mutant(
        rule="what is left reserved is booked by one of those who look for it",
        breaks=instead(charges, "_of_nobody_else", lambda rows: rows),
        killed_by="tests/integration/test_charges_at_once.py::test_what_a_claim_has_left_is_charged"
        "_by_one_of_two_upkeeps",
    ),
}
