"""What becomes of a turn whose target has failed: another one is asked, or nobody is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.claims import a_claim
from tests.ledgers import FakeLedger, deps_of
from turnmill.domain.errors import (
    ContextFull,
    HistoryRefused,
    KeyMissing,
    MaybeSent,
    Overloaded,
    ProviderError,
    RateLimited,
    Rejected,
    ThreadLocked,
    ThreadLost,
    Unreachable,
)
from turnmill.domain.ids import TurnId
from turnmill.domain.retry import RetryPolicy
from turnmill.domain.states import OnAmbiguous, TurnState
from turnmill.store.records import Claim, Fenced, Settled, Settlement
from turnmill_worker.layers.call import Call, Go
from turnmill_worker.layers.registered import Named
from turnmill_worker.layers.targets import aimed, bits
from turnmill_worker.providers.boundary import Answer, BadAnswer, Bug, Fault
from turnmill_worker.providers.port import Absent, Done, Failed, NotNow, Request, Unknowable
from turnmill_worker.turn import settlements, verdict
from turnmill_worker.turn.fallback import moved_on
from turnmill_worker.turn.run import run_claim
from turnmill_worker.turn.verdict import Rules, Verdict

RULES: Rules = Rules(policy=RetryPolicy(), jitter=0.5, patience=timedelta(days=1))
#: 0 is the session's own, at "one"; then another model of it, and two other vendors.
TARGETS = [
    {"provider": "one", "model": "b"},
    {"provider": "two", "model": "c"},
    {"provider": "three", "model": "d"},
]
WINDOWS = {"a": 1000, "b": 500, "c": 2000}


def claim_of(**options: Any) -> Claim:
    given = {"provider": "one", "model": "a", "settings": {"fallback": TARGETS}}
    return aimed(a_claim(**{"on_ambiguous": OnAmbiguous.RETRY, **given, **options}))


def window(_: str, model: str) -> int | None:
    return WINDOWS.get(model)


def after(found: Any, **options: Any) -> Verdict:
    claim = claim_of(**options)
    judge = verdict.of_error if isinstance(found, ProviderError) else verdict.of_answer
    judged = judge(claim, found, rules=RULES)
    return moved_on(claim, found, judged, rules=RULES, window=window)


@pytest.mark.parametrize(
    ("error", "following", "given_up"),
    [
        (Overloaded(), 1, ()),
        (RateLimited(retry_after=timedelta(hours=1)), 1, ()),
        (MaybeSent("http_500"), 1, ()),
        (MaybeSent("timeout"), 1, ()),
        (Bug("bug:KeyError"), 1, ()),
        (ThreadLost(), 1, ()),
        (Unreachable(), 2, ()),
        (Rejected("unreadable_reply"), 1, ()),
        (BadAnswer(), 1, ()),
        (Rejected("model_not_found"), 1, (0,)),
        (Rejected("http_404"), 1, (0,)),
        (Rejected("invalid_api_key"), 2, (0, 1)),
        (Rejected("insufficient_quota"), 2, (0, 1)),
        (Rejected("insufficient_credits"), 2, (0, 1)),
        (KeyMissing(), 2, (0, 1)),
    ],
    ids=lambda one: getattr(one, "error_code", None),
)
def test_what_another_vendor_may_heal_goes_on_at_once_with_the_next(
    error: ProviderError, following: int, given_up: tuple[int, ...]
) -> None:
    found = after(error)
    assert (found.state, found.target, found.delay) == (
        TurnState.RETRYING,
        following,
        timedelta(0),
    )
    assert found.given_up == bits(given_up)
    assert (found.benched or 0) & 1
    assert (found.answered_because, found.error_code) == (error.error_code, error.error_code)
    assert not found.gives_attempt_back


@pytest.mark.parametrize(
    "error",
    [
        Rejected("setting_refused"),
        Rejected("invalid_request_error"),
        Rejected("http_400"),
        Rejected("http_422"),
        Rejected("unsupported_part"),
        Rejected("content_policy_violation"),
        BadAnswer("reply_too_large"),
        ThreadLocked(),
    ],
    ids=lambda one: one.error_code,
)
def test_what_is_the_users_own_or_passes_by_itself_is_no_reason_to_ask_anybody_else(
    error: ProviderError,
) -> None:
    assert after(error).target is None


def test_who_asks_just_the_same_is_not_asked_after_what_has_failed() -> None:
    same = [{"provider": "one", "model": "a"}, *TARGETS]
    found = after(Overloaded(), settings={"fallback": same, "service_tier": "flex"})
    assert (found.target, found.benched) == (2, bits([0, 1]))
    back = after(Overloaded(), settings={"fallback": same}, target=1, benched=bits([2, 3, 4]))
    assert back.benched == 0  # a round is over: the first is asked again, and after a pause
    assert back.delay
    # Another tier of the same model may well have room.
    other = [{"provider": "one", "model": "a", "settings": {"service_tier": "default"}}]
    assert after(Overloaded(), settings={"fallback": other, "service_tier": "flex"}).target == 1


def test_what_stands_in_the_way_on_our_side_is_no_reason_either() -> None:
    claim = claim_of()
    judged = verdict.of_fault(claim, Fault("store_unavailable"), rules=RULES)
    assert moved_on(claim, Fault(), judged, rules=RULES, window=window) == judged


def test_too_long_a_conversation_goes_only_where_more_is_known_to_be_taken() -> None:
    found = after(ContextFull())
    assert (found.state, found.target) == (TurnState.RETRYING, 2)
    assert found.given_up == bits([0, 1, 3])
    smaller = after(ContextFull(), settings={"fallback": TARGETS[:1]})
    assert (smaller.state, smaller.target) == (TurnState.FAILED, None)


def test_a_refused_history_is_told_in_plain_words_before_anybody_else_is_asked() -> None:
    first = after(HistoryRefused())
    assert (first.state, first.target, first.gives_attempt_back) == (TurnState.RETRYING, None, True)
    assert after(HistoryRefused(), error_code="history_refused").target == 1


def test_any_refusal_of_another_target_is_that_targets_alone() -> None:
    found = after(Rejected("invalid_request_error"), target=2, benched=1, because="overloaded")
    assert (found.state, found.target) == (TurnState.RETRYING, 3)
    assert (found.given_up, found.answered_because) == (bits([2]), "overloaded")


def test_the_last_attempt_is_given_back_where_somebody_is_left_to_be_asked() -> None:
    found = after(Overloaded(), attempt=5)
    assert (found.state, found.gives_attempt_back) == (TurnState.RETRYING, True)
    last = after(Overloaded(), attempt=5, target=3, benched=bits([0, 1, 2]))
    assert (last.state, last.outcome) == (TurnState.DEAD, "dead")


def test_when_all_have_failed_the_next_round_begins_after_a_pause_with_those_that_may_answer() -> (
    None
):
    late = RateLimited(retry_after=timedelta(hours=1))
    found = after(late, attempt=3, target=3, benched=bits([0, 1, 2]), given_up=bits([0]))
    assert (found.state, found.target) == (TurnState.RETRYING, 1)
    assert timedelta(0) < found.delay < timedelta(minutes=1)
    assert (found.benched, found.given_up) == (bits([0]), bits([0]))


def test_who_is_left_alone_waits_for_as_long_as_its_vendor_asks() -> None:
    late = RateLimited(retry_after=timedelta(hours=1))
    found = after(late, target=3, benched=bits([0, 1, 2]), given_up=bits([0, 1, 2]))
    assert (found.target, found.delay >= timedelta(hours=1)) == (3, True)


def test_when_all_refuse_for_good_the_turn_fails() -> None:
    given_up = bits([0, 1, 2])
    found = after(Rejected("http_404"), target=3, benched=given_up, given_up=given_up)
    assert (found.state, found.error_code) == (TurnState.FAILED, "http_404")


def test_what_may_have_been_executed_is_asked_about_at_once_and_where_it_was_sent() -> None:
    found = after(MaybeSent("http_500"), on_ambiguous=OnAmbiguous.RECONCILE)
    assert (found.state, found.delay, found.target) == (TurnState.UNKNOWN, timedelta(0), None)
    assert (found.benched, found.answered_because) == (1, "http_500")


@pytest.mark.parametrize("answer", [Absent(), Unknowable()])
def test_what_was_not_executed_there_after_it_failed_goes_to_the_next(answer: Any) -> None:
    asked = {"kind": "check", "benched": 1, "because": "http_500", "error_code": "http_500"}
    found = after(answer, **asked)
    assert (found.state, found.target, found.error_code) == (TurnState.RETRYING, 1, None)
    spent = after(answer, attempt=5, **asked)
    assert (spent.state, spent.target, spent.gives_attempt_back) == (TurnState.RETRYING, 1, True)


@pytest.mark.parametrize("answer", [Absent(), Unknowable()])
def test_what_was_lost_with_its_worker_goes_to_the_same_target_again(answer: Any) -> None:
    found = after(answer, kind="check", target=2, benched=3)
    assert (found.state, found.target) == (TurnState.RETRYING, None)


def test_a_call_that_must_not_be_doubled_is_not_put_to_anybody_else() -> None:
    found = after(
        Unknowable(resend_is_safe=False),
        kind="check",
        benched=1,
        on_ambiguous=OnAmbiguous.RECONCILE,
    )
    assert (found.state, found.error_code, found.target) == (TurnState.FAILED, "ambiguous", None)


def test_a_question_that_is_not_answered_says_nothing_of_the_call() -> None:
    for error in (Overloaded(), Rejected("invalid_api_key"), MaybeSent("timeout")):
        found = after(error, kind="check", benched=1)
        assert (found.state, found.target) == (TurnState.UNKNOWN, None)


def test_work_that_failed_in_the_background_is_as_a_call_that_failed() -> None:
    found = after(Failed(error=Overloaded()), kind="resume", native_ref="resp_1")
    assert (found.state, found.target) == (TurnState.RETRYING, 1)


def test_a_reply_says_by_whom_and_why_and_leaves_no_thread() -> None:
    claim = claim_of(target=2, because="overloaded")
    done = Done(text="yes", thread_ref="resp_9")
    judged = verdict.of_answer(claim, done, rules=RULES)
    found = moved_on(claim, done, judged, rules=RULES, window=window)
    settled = settlements.settlement(claim, found, provider_ms=1, cost_usd=None)
    assert (settled.answered_by, settled.answered_because) == ("two/c", "overloaded")
    assert settled.provider_ref == ""
    assert [(one.ref, one.wanted) for one in settled.kept] == [("resp_9", False)]
    assert after(Done(text="yes")).answered_by is None


async def _says(request: Request) -> Done:
    return Done(text=f"{request.model} {request.settings.get('top_k')}")


@pytest.mark.anyio
async def test_a_layer_and_the_price_see_who_is_asked() -> None:
    ledger, seen = FakeLedger(), []

    def price(provider: str, model: str, _: Any) -> None:
        seen.append((provider, model))

    deps = deps_of(ledger, _says, price=price)
    target = {"provider": "two", "model": "c", "settings": {"top_k": 3}}
    claim = a_claim(provider="one", model="a", settings={"fallback": [target]}, target=1)
    await run_claim(claim, deps)
    assert (ledger.settled[-1].text, ledger.settled[-1].answered_by) == ("c 3", "two/c")
    assert seen == [("two", "c")]
    assert ledger.noted == []  # the row says so already


@pytest.mark.anyio
async def test_who_is_asked_instead_is_written_down_before_it_is() -> None:
    ledger = FakeLedger()
    noted_when_asked: list[Any] = []

    async def says(request: Request) -> Done:
        noted_when_asked.append(list(ledger.noted))
        return Done(text="yes")

    def find(name: str) -> Any:
        if name == "one":
            raise KeyMissing()
        return deps_of(ledger, says).provider(name)

    claim = a_claim(provider="one", model="a", settings={"fallback": TARGETS})
    await run_claim(claim, deps_of(ledger, says, provider=find))
    assert noted_when_asked == [[(2, "two", "c")]]
    settled = ledger.settled[-1]
    assert (settled.answered_by, settled.answered_because) == ("two/c", "key_missing")


@pytest.mark.anyio
async def test_where_nobody_can_be_asked_here_the_turn_fails_at_once_with_its_own_code() -> None:
    ledger = FakeLedger()

    def find(_: str) -> Any:
        raise KeyMissing()

    claim = a_claim(provider="one", model="a", settings={"fallback": TARGETS})
    await run_claim(claim, deps_of(ledger, None, provider=find))
    settled = ledger.settled[-1]
    assert (settled.state, settled.error_code) == (TurnState.FAILED, "key_missing")


@pytest.mark.anyio
async def test_a_turn_that_is_no_longer_ours_is_put_to_nobody_else() -> None:
    class Lost(FakeLedger):
        async def mark_target(self, claim: Claim) -> bool:
            return False

    ledger = Lost()

    async def says(_: Request) -> Done:
        raise AssertionError("asked")

    def find(name: str) -> Any:
        if name == "one":
            raise KeyMissing()
        return deps_of(ledger, says).provider(name)

    claim = a_claim(provider="one", model="a", settings={"fallback": TARGETS})
    await run_claim(claim, deps_of(ledger, says, provider=find))
    assert ledger.settled[-1].state is not TurnState.SUCCEEDED


@pytest.mark.anyio
async def test_where_all_are_closed_the_turn_waits_for_the_first_that_opens() -> None:
    ledger, waits = FakeLedger(), iter([9, 3, 6, 8])

    async def gate(call: Call, go: Go) -> Answer:
        return NotNow(until=timedelta(seconds=next(waits)), waits_for="account")

    claim = a_claim(provider="one", model="a", settings={"fallback": TARGETS})
    await run_claim(claim, deps_of(ledger, _says, layers=[Named(name="gate", layer=gate)]))
    settled = ledger.settled[-1]
    assert (settled.state, settled.waits_for) == (TurnState.QUEUED, "account")
    assert settled.delay == timedelta(seconds=3)
    assert (settled.target, ledger.noted) == (None, [])


@pytest.mark.anyio
async def test_a_turn_that_goes_on_keeps_its_slot_whoever_else_waits_in_line() -> None:
    class Crowded(FakeLedger):
        async def settle(self, settlement: Settlement) -> Settled | Fenced:
            self.settled.append(settlement)
            due_at = datetime.now(UTC) if settlement.state is TurnState.RETRYING else None
            return Settled(
                turn_id=settlement.turn_id, state=settlement.state, due_at=due_at, next=None
            )

        async def claim(self, turn_id: TurnId, *, crowded: bool = False) -> Claim | None:
            raise AssertionError("another turn may be given")

        async def claim_again(self, turn_id: TurnId) -> Claim | None:
            moved_to = self.settled[-1]
            assert moved_to.turn_id == turn_id and moved_to.target is not None
            return replace(claim, target=moved_to.target, attempt=2, n=2, fence=2)

    async def fails_at_first(request: Request) -> Done:
        if request.model == "a":
            raise Overloaded()
        return Done(text=request.model)

    claim = a_claim(provider="one", model="a", settings={"fallback": TARGETS})
    ledger = Crowded()
    await run_claim(claim, deps_of(ledger, fails_at_first))
    assert [one.text for one in ledger.settled] == [None, "b"]
    assert ledger.settled[-1].answered_by == "one/b"
