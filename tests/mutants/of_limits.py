"""Broken versions of what keeps to limits, each with the test that tells it from the real one."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import false, literal, true

from tests.mutants.breaking import Mutant, instead
from turnmill.domain import pacing
from turnmill.store.line import recall
from turnmill.store.nouns import limits
from turnmill_worker.gates.watch import Gates

_LIMITS = "tests/contract/store/test_limits.py"
_GATES = "tests/unit/test_gates.py"


def _all_at_once(given: Any, rates: Any, calls: Sequence[int], *, now: float) -> Any:
    return [0.0] * len(calls), given


def _here_and_now(given: Any, line: str, *, count: int, now: float, **_: Any) -> Any:
    return [pacing.EARLY] * count, given


OF_LIMITS = {
    "everybody_is_let_through": Mutant(
        rule="a limit that is given away is given to nobody else",
        breaks=instead(pacing, "give", _all_at_once),
        killed_by=f"{_LIMITS}::test_all_workers_together_are_given_no_more_than_there_is[postgres]",
    ),
    "all_in_one_place": Mutant(
        rule="whoever waits has a place behind those who wait already",
        breaks=instead(pacing, "place", _here_and_now),
        killed_by=f"{_LIMITS}::test_whoever_is_not_given_a_permit_has_a_place_behind_all_others"
        "[postgres]",
    ),
    "unused_permits_are_lost": Mutant(
        rule="what was given, and not used, is given back",
        breaks=instead(pacing, "take_back", lambda given, *_, **__: given),
        killed_by=f"{_LIMITS}::test_permits_that_were_not_used_are_given_to_others[postgres]",
    ),
    "raised_in_vain": Mutant(
        rule="what was given away under a lower limit holds nobody up under a higher one",
        breaks=instead(pacing, "changed", lambda given, *_, **__: given),
        killed_by=f"{_GATES}::test_who_waits_under_a_limit_that_is_raised_goes_at_once"
        "[asyncio-before0-after0-True]",
    ),
    "called_before_it_was_looked": Mutant(
        rule="a process that has just begun looks at what is limited before it calls anybody",
        breaks=instead(Gates, "_limited", lambda self, call, go: self._limits.layer(call, go)),
        killed_by=f"{_GATES}::test_a_process_that_has_just_begun_calls_nobody_before_it_knows_what"
        "_is_limited[asyncio]",
    ),
    "called_though_nothing_is_left": Mutant(
        rule="where a vendor says that nothing is left, nobody calls",
        breaks=instead(pacing, "hold_until", lambda given, _: given),
        killed_by=f"{_LIMITS}::test_what_a_vendor_tells_is_known_by_its_account[postgres]",
    ),
    "permits_of_the_dead": Mutant(
        rule="permits of a process that is gone are given to others",
        breaks=instead(limits, "db_asof", lambda: literal(datetime(2000, 1, 1, tzinfo=UTC))),
        killed_by=f"{_LIMITS}::test_permits_of_a_worker_that_is_gone_are_given_to_others[postgres]",
    ),
    "recalled_for_another": Mutant(
        rule="those are recalled who wait for what is there again, and no others",
        breaks=instead(recall, "_may_be_asked", lambda *_: true()),
        killed_by=f"{_LIMITS}::test_whoever_waits_with_all_his_targets_comes_when_the_first_of_them"
        "_opens[postgres]",
    ),
    "forgotten_at_a_fallback": Mutant(
        rule="who waits at a fallback target comes when it is there again",
        breaks=instead(recall, "_names", lambda _: false()),
        killed_by=f"{_LIMITS}::test_whoever_waits_with_all_his_targets_comes_when_the_first_of_them"
        "_opens[postgres]",
    ),
}
