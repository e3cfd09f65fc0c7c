"""Broken versions of what goes on in threads of vendors, each with the test that kills it."""

from tests.mutants.breaking import Mutant, instead
from turnmill_worker.providers.anthropic import threads

_AT_ANTHROPIC = "tests/contract/test_threads_at_anthropic.py"

OF_THREADS: dict[str, Mutant] = {
    "thread_of_another_set_up": Mutant(
        rule="a turn is answered with the instructions that its session has now",
        breaks=instead(threads, "_setup_of", lambda *_: "any"),
        killed_by=f"{_AT_ANTHROPIC}::test_what_it_was_begun_with_cannot_change_in_it"
        "[asyncio-change0]",
    ),
    "thread_after_what_was_cut": Mutant(
        rule="a model is shown what stands in our rows, and nothing else",
        breaks=instead(threads, "_GOES_ON", threads._GOES_ON | {"max_tokens"}),
        killed_by=f"{_AT_ANTHROPIC}::test_a_reply_that_we_hold_in_other_words_is_gone_on_from_with"
        "_those[asyncio-length]",
    ),
}
