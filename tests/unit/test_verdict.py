"""What is written about an answer or an error: when it is asked again, and what is left behind."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.claims import a_claim
from turnmill.domain.errors import (
    KeyMissing,
    MaybeSent,
    ProviderError,
    RateLimited,
    Rejected,
    ThreadLost,
)
from turnmill.domain.retry import RetryPolicy
from turnmill.domain.states import TurnState
from turnmill.store.records import Claim, Kept
from turnmill_worker.layers.holding import Stop
from turnmill_worker.providers.boundary import Answer, Fault
from turnmill_worker.providers.port import Done, Failed, Running, Unknowable
from turnmill_worker.turn import settlements, verdict
from turnmill_worker.turn.verdict import Rules

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
RULES = Rules(policy=RetryPolicy(), jitter=0.0, patience=DAY)
FAILURES = [
    Rejected("invalid_api_key"),
    KeyMissing(),
    RateLimited("slow", retry_after=timedelta(seconds=7)),
    MaybeSent("http_500"),
    ThreadLost("gone"),
]


def resumed(**options: Any) -> Claim:
    return a_claim(kind="resume", native_ref="bg_1", **options)


def kept_by(claim: Claim, found: verdict.Verdict) -> list[tuple[str, bool, bool, bool]]:
    settled = settlements.settlement(claim, found, provider_ms=1, cost_usd=None)
    assert {one.provider for one in settled.kept} <= {claim.provider}
    return [(one.ref, one.stored, one.running, one.wanted) for one in settled.kept]


@pytest.mark.parametrize(
    ("waited", "pause"),
    [
        (timedelta(0), timedelta(seconds=2)),
        (timedelta(seconds=10), timedelta(seconds=2)),
        (timedelta(seconds=80), timedelta(seconds=10)),
        (timedelta(minutes=8), MINUTE),
        (timedelta(hours=12), MINUTE),
    ],
)
def test_the_older_the_work_the_less_often_it_is_looked_up(
    waited: timedelta, pause: timedelta
) -> None:
    found = verdict.of_answer(resumed(waited=waited), Running(native_ref="bg_1"), rules=RULES)
    assert (found.state, found.delay) == (TurnState.WAITING, pause)


def test_a_provider_that_wants_to_be_asked_later_is_asked_later() -> None:
    answer = Running(native_ref="bg_1", poll_after=5 * MINUTE)
    assert verdict.of_answer(resumed(), answer, rules=RULES).delay == 5 * MINUTE


def test_a_day_of_work_is_looked_up_some_hundred_times_and_not_some_thousand() -> None:
    waited, looks = timedelta(0), 0
    while waited < DAY:
        found = verdict.of_answer(resumed(waited=waited), Running(native_ref="bg_1"), rules=RULES)
        waited, looks = waited + found.delay, looks + 1
    assert looks < 1500
    assert waited == DAY  # the last look is at the deadline itself


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    ("kind", "state"), [("resume", TurnState.WAITING), ("check", TurnState.UNKNOWN)]
)
def test_whatever_keeps_a_question_from_its_answer_it_is_asked_again(
    error: ProviderError, kind: str, state: TurnState
) -> None:
    claim = a_claim(kind=kind, native_ref="bg_1", attempt=5, max_attempts=5, waited=8 * MINUTE)
    found = verdict.of_error(claim, error, rules=RULES)
    assert (found.state, found.outcome, found.native_ref) == (state, "unanswered", "bg_1")
    assert found.error_code == error.error_code
    assert found.delay == MINUTE


def test_an_unanswered_question_is_not_asked_earlier_than_the_vendor_wants() -> None:
    error = RateLimited("slow", retry_after=timedelta(seconds=7))
    assert verdict.of_error(resumed(), error, rules=RULES).delay == timedelta(seconds=7)


@pytest.mark.parametrize(
    ("options", "state", "code"),
    [
        ({"waited": DAY}, TurnState.FAILED, "background_timeout"),
        ({"expires_in": timedelta(0)}, TurnState.EXPIRED, "expired"),
        ({"expires_in": -MINUTE, "waited": DAY}, TurnState.EXPIRED, "expired"),
    ],
)
@pytest.mark.parametrize("answered", [True, False])
def test_patience_ends_and_the_vendor_is_to_stop(
    options: dict[str, Any], state: TurnState, code: str, *, answered: bool
) -> None:
    claim = resumed(**options)
    if answered:
        found = verdict.of_answer(claim, Running(native_ref="bg_1", kept=["bg_1"]), rules=RULES)
    else:
        found = verdict.of_error(claim, Rejected("invalid_api_key"), rules=RULES)
    assert (found.state, found.error_code) == (state, code)
    assert kept_by(claim, found) == [("bg_1", answered, True, False)]


def test_an_answer_that_is_there_at_the_deadline_counts() -> None:
    found = verdict.of_answer(resumed(waited=2 * DAY), Done(text="hi"), rules=RULES)
    assert found.state is TurnState.SUCCEEDED


def test_a_question_about_a_call_that_nobody_answers_for_a_day_is_given_up() -> None:
    claim = a_claim(kind="check", waited=DAY)
    found = verdict.of_error(claim, MaybeSent("timeout"), rules=RULES)
    assert (found.state, found.error_code) == (TurnState.DEAD, "ambiguous")


@pytest.mark.parametrize(
    ("error", "attempt", "state"),
    [
        (RateLimited("rate_limit_exceeded", detail="Slow down."), 1, TurnState.RETRYING),
        (RateLimited("rate_limit_exceeded", detail="Slow down."), 5, TurnState.DEAD),
        (Rejected("invalid_prompt", detail="No."), 1, TurnState.FAILED),
    ],
)
def test_work_that_failed_is_judged_as_a_call_with_its_error(
    error: ProviderError, attempt: int, state: TurnState
) -> None:
    claim = resumed(attempt=attempt)
    found = verdict.of_answer(claim, Failed(error=error), rules=RULES._replace(jitter=0.5))
    as_a_call = verdict.of_error(a_claim(attempt=attempt), error, rules=RULES._replace(jitter=0.5))
    assert found == replace(as_a_call, tells=True)
    assert (found.state, found.error_detail) == (state, error.detail)
    assert kept_by(claim, found) == [("bg_1", False, False, False)]


@pytest.mark.parametrize(
    ("claim", "answer", "left"),
    [
        (a_claim(), Done(text="hi"), []),
        (a_claim(), Done(text="hi", thread_ref="r1"), [("r1", True, False, True)]),
        (a_claim(), Done(text="hi", kept=("r1",)), [("r1", True, False, True)]),
        (a_claim(), Running(native_ref="b"), [("b", False, True, True)]),
        (a_claim(), Running(native_ref="b", kept=("b",)), [("b", True, True, True)]),
        (resumed(), Done(text="hi", thread_ref="bg_1"), [("bg_1", True, False, True)]),
        (resumed(), Done(text="hi"), [("bg_1", False, False, False)]),
        (resumed(), Unknowable(), [("bg_1", False, False, False)]),
        (
            resumed(),
            Running(native_ref="bg_2"),
            [("bg_2", False, True, True), ("bg_1", False, False, False)],
        ),
    ],
)
def test_what_the_vendor_keeps_is_named_with_every_answer(
    claim: Claim, answer: Answer, left: list[tuple[str, bool, bool, bool]]
) -> None:
    assert kept_by(claim, verdict.of_answer(claim, answer, rules=RULES)) == left


@pytest.mark.parametrize(
    ("stop", "wanted"), [(Stop.CANCELLED, False), (Stop.DRAINING, True), (Stop.LEASE_LOST, True)]
)
def test_a_look_that_is_cut_leaves_the_work_running_or_stops_it(
    stop: Stop, *, wanted: bool
) -> None:
    claim = resumed()
    assert kept_by(claim, verdict.of_stop(claim, stop, sent=False)) == [
        ("bg_1", False, True, wanted)
    ]


@pytest.mark.parametrize("given", [None, 7, [None, ""], ["x\0y"], ["x" * 2000], object()])
def test_what_is_no_id_is_not_taken_for_one(given: Any) -> None:
    found = verdict.of_answer(a_claim(), Done(text="hi", kept=given), rules=RULES)
    assert kept_by(a_claim(), found) == []


def test_a_single_id_is_not_taken_apart() -> None:
    found = verdict.of_answer(a_claim(), Done(text="hi", kept="resp_1"), rules=RULES)
    settled = settlements.settlement(a_claim(), found, provider_ms=1, cost_usd=None)
    assert settled.kept == (
        Kept(ref="resp_1", provider="theirs", stored=True, running=False, wanted=True),
    )


def test_a_fault_of_ours_does_not_lose_work_that_was_looked_up_for_long() -> None:
    claim = resumed(n=1441, waited=timedelta(hours=23))
    found = verdict.of_fault(claim, Fault("unreadable_row"), rules=RULES)
    assert (found.state, found.error_code) == (TurnState.QUEUED, "unreadable_row")
    ended = verdict.of_fault(resumed(waited=DAY), Fault("unreadable_row"), rules=RULES)
    assert (ended.state, ended.runs_on) == (TurnState.FAILED, True)


def test_a_fault_of_ours_does_not_lose_a_turn_that_was_asked_about_often() -> None:
    claim = a_claim(kind="check", n=1441, waited=timedelta(hours=23))
    found = verdict.of_fault(claim, Fault("unreadable_row"), rules=RULES)
    assert (found.state, found.gives_attempt_back) == (TurnState.QUEUED, True)
    over = replace(claim, waited=DAY)
    ended = verdict.of_fault(over, Fault("unreadable_row"), rules=RULES)
    assert (ended.state, ended.error_code) == (TurnState.DEAD, "ambiguous")


@pytest.mark.parametrize("kind", ["resume", "check"])
def test_an_answer_that_is_too_large_is_not_asked_for_again(kind: str) -> None:
    claim = resumed() if kind == "resume" else a_claim(kind=kind)
    found = verdict.of_error(claim, Rejected("reply_too_large"), rules=RULES)
    assert (found.state, found.error_code) == (TurnState.FAILED, "reply_too_large")
    assert not any(running or wanted for _, _, running, wanted in kept_by(claim, found))


def test_work_that_is_said_to_go_on_without_a_name_keeps_the_name_that_it_has() -> None:
    claim = resumed()
    found = verdict.of_answer(claim, Running(native_ref=""), rules=RULES)
    assert (found.state, found.native_ref) == (TurnState.WAITING, claim.native_ref)
