"""Broken versions of what batches promise, each with the test that tells it from the real one."""

from tests.mutants.breaking import Mutant, instead
from turnmill.store.line import endings
from turnmill.store.nouns import shard_moves
from turnmill_worker.native import taking
from turnmill_worker.process import feeding_batches, scheduling
from turnmill_worker.providers.batch_port import VendorBatch

_STAGING = "tests/contract/store/test_batch_staging.py"
_SCHEDULES = "tests/contract/store/test_schedules.py"
_LATE = "tests/integration/test_results_told_late.py"
_SEVERAL = "tests/contract/store/test_lines_of_several_messages.py"


def _believed(batch: VendorBatch, results: int, *, lines: int) -> bool:
    """Believe one that was cut short, and counts nothing, that it has run nothing."""
    return results >= (batch.results or (0 if batch.is_cut_short else lines))


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
    "uncounted_is_nothing": Mutant(
        rule="a vendor's batch that counts nothing yet is not believed to have run nothing",
        breaks=instead(VendorBatch, "are_all", _believed),
        killed_by=f"{_LATE}::test_a_batch_that_was_cut_short_and_counts_nothing_yet_is_looked_at"
        "_again[asyncio-openai-cancelled]",
    ),
    "any_form_will_do": Mutant(
        rule="a reply to a line has the form that is asked for, or its turn fails",
        breaks=instead(taking, "fault_of", lambda *_: ""),
        killed_by="tests/integration/test_forms_in_batches.py::test_a_reply_has_the_form_that_is"
        "_asked_for_or_its_line_fails[asyncio-openai]",
    ),
    "given_up_is_free": Mutant(
        rule="results that come when their lines have gone on are paid for",
        breaks=instead(shard_moves, "note_lines", lambda *_, **__: None),
        killed_by=f"{_LATE}::test_results_that_come_when_their_lines_have_gone_on_are_booked_and"
        "_deleted[asyncio-openai]",
    ),
}
