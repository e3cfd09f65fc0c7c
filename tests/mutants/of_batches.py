"""Broken versions of what batches promise, each with the test that tells it from the real one."""

from tests.mutants.breaking import Mutant, instead
from turnmill.store.line import endings
from turnmill_worker.process import feeding_batches, scheduling

_STAGING = "tests/contract/store/test_batch_staging.py"
_SCHEDULES = "tests/contract/store/test_schedules.py"
_SEVERAL = "tests/contract/store/test_lines_of_several_messages.py"

OF_BATCHES = {
    "lines_pay_for_the_store": Mutant(
        rule="what ails the store costs no line of a batch",
        breaks=instead(feeding_batches, "is_of_row", lambda _: True),
        killed_by=f"{_STAGING}::test_what_ails_the_store_or_the_machine_costs_no_line"
        "[postgres-AccessDenied]",
    ),
    "schedules_pay_for_the_store": Mutant(
        rule="what ails the store pauses no schedule",
        breaks=instead(scheduling, "is_of_row", lambda _: True),
        killed_by=f"{_SCHEDULES}::test_what_ails_the_store_or_the_machine_pauses_no_schedule"
        "[postgres-AccessDenied]",
    ),
    "failed_with_another_uncounted": Mutant(
        rule="who fails because of another counts as failed",
        breaks=instead(endings, "note_failures", lambda *_: []),
        killed_by=f"{_SEVERAL}::test_each_message_behind_one_that_failed_counts_as_failed_until_it"
        "_runs_again[postgres]",
    ),
}
