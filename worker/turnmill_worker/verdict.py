"""From what a provider did to what the store is told: pure, one function for each case."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import assert_never

from turnmill.domain.errors import MaybeSent, NotSent, ProviderError
from turnmill.domain.retry import RetryPolicy
from turnmill.domain.states import OnAmbiguous, TurnState
from turnmill.domain.text import storable
from turnmill.store.records import Claim, Settlement
from turnmill_worker.boundary import Bug
from turnmill_worker.held import Stop
from turnmill_worker.providers.base import Absent, Done, Running, Unknowable

#: How often a provider may leave the question unanswered what became of a turn.
MAX_QUESTIONS = 1000
#: How often more than its attempts a turn may be claimed in vain: because it could not be put to
#: its provider, or because the provider's code breaks over the question.
MAX_FAULTS = 20


@dataclass(frozen=True, slots=True)
class Fault:
    """The turn could not be put to its provider, for a reason on our side: nothing was sent."""

    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is to be written about one attempt, but for the identity of the turn."""

    state: TurnState
    outcome: str
    gives_attempt_back: bool = False
    delay: timedelta = timedelta(0)
    reply: Done | None = None
    native_ref: str = ""
    error_code: str | None = None
    error_detail: str | None = None
    request_id: str = ""


def of_answer(claim: Claim, answer: Done | Running | Absent | Unknowable) -> Verdict:
    """Return the verdict on what `send` or `check` returned."""
    match answer:
        case Done():
            return Verdict(
                state=TurnState.SUCCEEDED,
                outcome="succeeded",
                reply=answer,
                request_id=answer.request_id,
            )
        case Running():
            return Verdict(
                state=TurnState.WAITING,
                outcome="waiting",
                delay=answer.poll_after,
                native_ref=answer.native_ref,
            )
        case Absent():
            return _send_again(claim, outcome="absent")
        case Unknowable():
            if answer.resend_is_safe or claim.on_ambiguous is not OnAmbiguous.RECONCILE:
                return _send_again(claim, outcome="unknowable")
            return Verdict(state=TurnState.FAILED, outcome="failed", error_code="ambiguous")
        case _:
            assert_never(answer)


def _send_again(claim: Claim, *, outcome: str) -> Verdict:
    if claim.attempt >= claim.max_attempts:
        return Verdict(state=TurnState.DEAD, outcome="dead", error_code="attempts_exhausted")
    return Verdict(state=TurnState.RETRYING, outcome=outcome)


def of_error(claim: Claim, error: ProviderError, *, policy: RetryPolicy, jitter: float) -> Verdict:
    """Return the verdict on a provider's error: try again, ask what became of it, or give up."""
    # A question costs no attempt, and is asked again after a pause also when none is left.
    tries = claim.attempt if claim.kind == "send" else claim.n
    most = claim.max_attempts if claim.kind == "send" else claim.n + 1
    delay = policy.delay_after(error, attempt=tries, max_attempts=most, jitter=jitter)
    state, outcome = _after_error(claim, error, exhausted=delay is None, policy=policy)
    return Verdict(
        state=state,
        outcome=outcome,
        delay=delay or timedelta(0),
        native_ref=claim.native_ref if state is TurnState.WAITING else "",
        error_code=error.error_code,
        error_detail=storable(error.detail) or None,
        request_id=error.request_id,
    )


def _after_error(
    claim: Claim, error: ProviderError, *, exhausted: bool, policy: RetryPolicy
) -> tuple[TurnState, str]:
    if policy.is_permanent(error):
        return TurnState.FAILED, "failed"
    if claim.kind != "send":
        if claim.n >= claim.max_attempts + _questions(claim, error):
            return TurnState.DEAD, "dead"  # whatever the error is: sending again is not safe
        # A question that was not answered is asked again: sending now could double the turn.
        state = TurnState.WAITING if claim.kind == "resume" else TurnState.UNKNOWN
        return state, "unanswered"
    if isinstance(error, MaybeSent) and claim.on_ambiguous is not OnAmbiguous.RETRY:
        return TurnState.UNKNOWN, "maybe_sent"
    if exhausted:
        return TurnState.DEAD, "dead"
    return TurnState.RETRYING, "retrying"


def _questions(claim: Claim, error: ProviderError) -> int:
    # Work in the background is polled often: its claims do not tell how often the code broke.
    return MAX_FAULTS if isinstance(error, Bug) and claim.kind == "check" else MAX_QUESTIONS


def of_fault(claim: Claim, fault: Fault, *, policy: RetryPolicy, jitter: float) -> Verdict:
    """Return the verdict on a turn that could not be put to its provider: given back, with bounds.

    It costs no attempt, but it is no waiting that is meant either: pauses grow, and end.
    """
    most = MAX_QUESTIONS if claim.kind == "resume" else MAX_FAULTS
    if claim.n >= claim.max_attempts + most:
        return Verdict(state=TurnState.DEAD, outcome="dead", error_code=fault.code)
    error = NotSent(fault.code)
    delay = policy.delay_after(error, attempt=claim.n, max_attempts=claim.n + 1, jitter=jitter)
    return Verdict(
        state=TurnState.QUEUED,
        outcome="released",
        gives_attempt_back=True,
        delay=delay or timedelta(0),
        error_code=fault.code,
    )


def of_stop(claim: Claim, why: Stop, *, sent: bool) -> Verdict:
    """Return the verdict on a call that was closed by us.

    A release relies on what this process itself knows: nothing was sent, so nothing is owed. A
    worker that ends takes no attempt; tasks that Celery ends again and again, with a time limit
    that is too short for the provider, at last do.
    """
    if why is Stop.CANCELLED:
        return Verdict(state=TurnState.CANCELLED, outcome="cancelled", error_code="cancelled")
    if sent:
        return Verdict(
            state=TurnState.UNKNOWN,
            outcome="abandoned",
            gives_attempt_back=why is not Stop.REVOKED or claim.n < claim.max_attempts + MAX_FAULTS,
            error_code=why.value,
        )
    return Verdict(
        state=TurnState.QUEUED, outcome="released", gives_attempt_back=True, error_code=None
    )


def settlement(
    claim: Claim,
    verdict: Verdict,
    *,
    provider_ms: int,
    cost_usd: Decimal | None,
) -> Settlement:
    """Return the verdict with the identity of the turn and the price of the reply."""
    reply = verdict.reply
    usage = reply.usage if reply else None
    return Settlement(
        turn_id=claim.turn_id,
        session_id=claim.session_id,
        fence=claim.fence,
        state=verdict.state,
        outcome=verdict.outcome,
        gives_attempt_back=verdict.gives_attempt_back,
        delay=verdict.delay,
        reply=storable(reply.text) if reply else None,
        finish_reason=reply.finish_reason if reply else None,
        provider_ref=reply.thread_ref if reply else None,
        native_ref=verdict.native_ref,
        request_id=verdict.request_id,
        model=(reply.model if reply else "") or claim.model,
        error_code=verdict.error_code,
        error_detail=verdict.error_detail,
        input_tokens=usage.input_tokens if usage else 0,
        output_tokens=usage.output_tokens if usage else 0,
        cached_tokens=usage.cached_tokens if usage else 0,
        cost_usd=cost_usd,
        priced=reply is None or cost_usd is not None,
        provider_ms=provider_ms,
    )
