"""What becomes of a thread that was lent, by the verdict on its call."""

import pytest

from tests import steps
from tests.claims import a_claim
from turnmill.domain.states import TurnState
from turnmill_worker.layers.holding import Holding, Lent, OwnHistory
from turnmill_worker.turn.lent import with_thread


def holding() -> Holding:
    found = Holding(a_claim())
    found.lent = Lent("conv_1", goes_on=True)
    return found


def test_a_thread_that_never_came_back_is_given_up_once() -> None:
    lost = with_thread(steps.verdict(a_claim(), TurnState.UNKNOWN), holding())
    assert [(one.ref, one.stored, one.wanted) for one in lost.kept] == [("conv_1", True, False)]
    told = with_thread(lost, holding())  # as where what was kept of an error names it already
    assert told.kept == lost.kept


@pytest.mark.parametrize("ref", ["conv_1", ""])
def test_a_reply_says_itself_what_becomes_of_the_thread(ref: str) -> None:
    answered = steps.verdict(a_claim(), TurnState.SUCCEEDED, provider_ref=ref)
    assert with_thread(answered, holding()) == answered


def test_a_thread_in_which_work_goes_on_is_kept() -> None:
    waiting = steps.verdict(a_claim(), TurnState.WAITING)
    assert with_thread(waiting, holding()) == waiting


def test_why_a_turn_did_without_is_told_with_every_verdict() -> None:
    found = holding()
    found.own_history = OwnHistory.LOCKED
    told = with_thread(steps.verdict(a_claim(), TurnState.RETRYING), found)
    assert (told.own_history, found.lent) == ("locked", None)
