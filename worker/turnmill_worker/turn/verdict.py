"""From what a provider did to what the store is told: pure, one function for each case."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, NamedTuple, TypeGuard, assert_never

from turnmill.domain.checks import storable
from turnmill.domain.errors import ContextFull, HistoryRefused, MaybeSent, NotSent, ProviderError
from turnmill.domain.retry import RetryPolicy
from turnmill.domain.states import OnAmbiguous, TurnState
from turnmill.store.records import Claim
from turnmill_worker.layers.holding import Stop
from turnmill_worker.layers.shortening import kind_of
from turnmill_worker.providers.boundary import Answer, BadAnswer, Bug, Fault
from turnmill_worker.providers.port import (
    Absent,
    Done,
    Failed,
    NotNow,
    Running,
    Unknowable,
    used_by,
)

#: For so long a provider is asked what has become of a turn.
BACKGROUND_TIMEOUT = timedelta(days=1)

#: How often more than its attempts a turn may be claimed in vain: because it could not be put to
#: its provider, or because the provider's code breaks over the question.
MAX_FAULTS = 20

#: Of an answer that is there, and stays as large as it is.
_TOO_LARGE = "reply_too_large"

#: Of an attempt whose history was refused, for its structure or its length: the next changes it.
REFUSED = "refused"

_MOST_IDS = 100
_LONGEST_ID = 1_000


class Rules(NamedTuple):
    """What verdicts go by, besides the claim and what came of it."""

    policy: RetryPolicy
    jitter: float  #: in [0, 1)
    patience: timedelta  #: for how long work in the background is looked up


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is to be written about one attempt, but for the identity of the turn."""

    state: TurnState
    outcome: str
    gives_attempt_back: bool = False
    delay: timedelta = timedelta(0)
    reply: Done | None = None
    native_ref: str = ""
    kept: Sequence[str] = ()  #: what the vendor stores, by its own ids
    runs_on: bool = False  #: the vendor may still be at work in the background
    error_code: str | None = None
    error_detail: str | None = field(default=None, repr=False)
    request_id: str = ""
    waits_for: str | None = None  #: what a layer put the turn off for
    target: int | None = None  #: that the turn goes on with; None: as before, as for the next ones
    benched: int | None = None
    given_up: int | None = None
    answered_because: str | None = None
    answered_by: str | None = None
    tells: bool = False  #: it is known by now what became of the call
    used: Done | None = None  #: what the call has used that came to nothing, as it was counted


def of_answer(claim: Claim, answer: Answer, *, rules: Rules) -> Verdict:
    """Return the verdict on what `send` or `check` returned."""
    match answer:
        case Done():
            return Verdict(
                state=TurnState.SUCCEEDED,
                outcome="succeeded",
                reply=answer,
                request_id=answer.request_id,
                kept=(*ids_of(answer.kept), *ids_of(answer.thread_ref)),
                tells=True,
            )
        case Running():
            waiting = Verdict(
                state=TurnState.WAITING,
                outcome="waiting",
                native_ref=answer.native_ref or claim.native_ref,
                kept=ids_of(answer.kept),
                runs_on=True,
            )
            pause = rules.policy.ask_again_after(
                claim.waited, floor=answer.poll_after, jitter=rules.jitter
            )
            return _asked_again(claim, waiting, pause=pause, patience=rules.patience)
        case Failed():
            failed = _of_failed(claim, answer.error, rules=rules)
            return replace(failed, tells=True)
        case Absent():
            return replace(_send_again(claim, outcome="absent"), tells=True)
        case Unknowable():
            if answer.resend_is_safe or claim.on_ambiguous is not OnAmbiguous.RECONCILE:
                return _send_again(claim, outcome="unknowable")
            return Verdict(state=TurnState.FAILED, outcome="failed", error_code="ambiguous")
        case NotNow():
            return _put_off(claim, answer, patience=rules.patience)
        case _:
            assert_never(answer)


def _of_failed(claim: Claim, error: ProviderError, *, rules: Rules) -> Verdict:
    """Return the verdict on work in the background that has ended: as on a call with its error."""
    as_a_call = replace(claim, kind="send", native_ref="")
    found = of_error(as_a_call, error, rules=rules)
    if claim.attempt < claim.max_attempts and _is_to_be_shortened(claim, error):
        return replace(found, state=TurnState.RETRYING, outcome=REFUSED)
    if found.outcome == REFUSED and claim.attempt >= claim.max_attempts:
        # A question gives no attempt back.
        return replace(found, state=TurnState.FAILED, outcome="failed")
    return found


def _is_to_be_shortened(claim: Claim, error: ProviderError) -> bool:
    """Tell whether what was too long in the background may be asked again with less before it."""
    return isinstance(error, ContextFull) and kind_of(claim.settings) is not None


def _put_off(claim: Claim, answer: NotNow, *, patience: timedelta) -> Verdict:
    """Give the turn back as it was claimed: it is no attempt, and no fault of anybody's.

    A call waits for as long as its turn may; a question no longer than any other question.
    """
    assert isinstance(answer.until, timedelta)  # the boundary sees to it
    put_off = Verdict(
        state=TurnState.QUEUED,
        outcome="not_now",
        gives_attempt_back=True,
        delay=answer.until,
        runs_on=True,
        waits_for=answer.waits_for,
    )
    if claim.kind == "send":
        return put_off
    state = TurnState.WAITING if claim.kind == "resume" else TurnState.UNKNOWN
    question = replace(put_off, state=state, native_ref=claim.native_ref)
    return _asked_again(claim, question, pause=answer.until, patience=patience)


def _send_again(claim: Claim, *, outcome: str) -> Verdict:
    if claim.attempt >= claim.max_attempts:
        return Verdict(state=TurnState.DEAD, outcome="dead", error_code="attempts_exhausted")
    return Verdict(state=TurnState.RETRYING, outcome=outcome)


def of_error(claim: Claim, error: ProviderError, *, rules: Rules) -> Verdict:
    """Return the verdict on a provider's error: try again, ask what became of it, or give up."""
    if claim.kind == "send" and _is_to_be_repaired(claim, error):
        # It was refused before it cost anything: the same attempt, in plain words, and at once.
        return Verdict(
            state=TurnState.RETRYING, outcome=REFUSED, gives_attempt_back=True, **_words(error)
        )
    if claim.kind != "send" and not _ends_the_question(claim, error):
        return _unanswered(claim, error, rules=rules)
    delay = rules.policy.delay_after(
        error, attempt=claim.attempt, max_attempts=claim.max_attempts, jitter=rules.jitter
    )
    if claim.kind != "send":
        delay = None  # sending again is not safe
    state, outcome = _after_error(claim, error, exhausted=delay is None, policy=rules.policy)
    return Verdict(state=state, outcome=outcome, delay=delay or timedelta(0), **_words(error))


def _is_to_be_repaired(claim: Claim, error: ProviderError) -> bool:
    """Tell whether a history that was refused for its structure is still to be told in plain words.

    Once: see `turnmill_worker.layers.repair`.
    """
    return isinstance(error, HistoryRefused) and claim.error_code != HistoryRefused.code


def _ends_the_question(claim: Claim, error: ProviderError) -> bool:
    """Tell whether asking again can never help: the provider's code, or the answer, is at fault."""
    if isinstance(error, BadAnswer) or error.error_code == _TOO_LARGE:
        return True
    breaks = isinstance(error, Bug) and claim.kind == "check"
    return breaks and _of_this_step(claim) >= claim.max_attempts + MAX_FAULTS


def _of_this_step(claim: Claim) -> int:
    """Return how many claims there were, but for one of each step that was finished."""
    return claim.n - (claim.step - 1)


def _after_error(
    claim: Claim, error: ProviderError, *, exhausted: bool, policy: RetryPolicy
) -> tuple[TurnState, str]:
    if policy.is_permanent(error):
        return TurnState.FAILED, "failed"
    is_call = claim.kind == "send"
    if is_call and isinstance(error, MaybeSent) and claim.on_ambiguous is not OnAmbiguous.RETRY:
        return TurnState.UNKNOWN, "maybe_sent"
    return (TurnState.DEAD, "dead") if exhausted else (TurnState.RETRYING, "retrying")


def _unanswered(claim: Claim, error: ProviderError, *, rules: Rules) -> Verdict:
    """Ask again, whatever stood in the way: sending now could double the turn, or pay it twice."""
    unanswered = Verdict(
        state=TurnState.WAITING if claim.kind == "resume" else TurnState.UNKNOWN,
        outcome="unanswered",
        native_ref=claim.native_ref,
        runs_on=True,
        **_words(error) | {"used": None},  # it would be told, and booked, at each look
    )
    floor = error.retry_after or timedelta(0)
    pause = rules.policy.ask_again_after(claim.waited, floor=floor, jitter=rules.jitter)
    return _asked_again(claim, unanswered, pause=pause, patience=rules.patience)


def _asked_again(
    claim: Claim, verdict: Verdict, *, pause: timedelta, patience: timedelta
) -> Verdict:
    """Return the verdict with the pause until the next question, or the end of all patience."""
    left = patience - claim.waited
    if claim.expires_in is not None:
        left = min(left, claim.expires_in)
    if claim.kind == "send" or left > timedelta(0):
        return replace(verdict, delay=min(pause, max(left, timedelta(0))))
    if claim.expires_in is not None and claim.expires_in <= timedelta(0):
        state, code = TurnState.EXPIRED, "expired"
    elif verdict.native_ref:
        state, code = TurnState.FAILED, "background_timeout"
    else:
        state, code = TurnState.DEAD, "ambiguous"
    return replace(verdict, state=state, outcome=state.value, native_ref="", error_code=code)


def _words(error: ProviderError) -> dict[str, Any]:
    return {
        "error_code": error.error_code[:200],
        "error_detail": storable(error.detail)[:4000] or None,
        "request_id": error.request_id,
        "kept": ids_of(error.kept),
        "used": used_by(error),
    }


def ids_of(given: object) -> tuple[str, ...]:
    """Return what can be a vendor's id; more than a few, or long ones, are none."""
    if not given:
        return ()
    found: Sequence[object] = (given,)
    if not isinstance(given, str) and isinstance(given, tuple | Sequence):
        found = given
    return tuple([one for one in found if _is_id(one)][:_MOST_IDS])


def _is_id(one: object) -> TypeGuard[str]:
    return isinstance(one, str) and 0 < len(one) <= _LONGEST_ID and storable(one) == one


def of_fault(claim: Claim, fault: Fault, *, rules: Rules) -> Verdict:
    """Return the verdict on a turn that could not be put to its provider: given back, with bounds.

    It costs no attempt, but it is no waiting that is meant either: pauses grow, and end. What may
    have been executed is claimed for each look at it, so that its claims tell nothing: its time
    does.
    """
    error = NotSent(fault.error_code)
    if claim.kind != "send":
        asked = _unanswered(claim, error, rules=rules)
        if asked.state not in {TurnState.WAITING, TurnState.UNKNOWN}:
            return asked
    elif _of_this_step(claim) >= claim.max_attempts + MAX_FAULTS:
        return Verdict(
            state=TurnState.DEAD, outcome="dead", error_code=fault.error_code, runs_on=True
        )
    n = _of_this_step(claim)
    delay = rules.policy.delay_after(error, attempt=n, max_attempts=n + 1, jitter=rules.jitter)
    return Verdict(
        state=TurnState.QUEUED,
        outcome="released",
        gives_attempt_back=True,
        delay=delay or timedelta(0),
        error_code=fault.error_code,
        runs_on=True,
    )


def of_stop(claim: Claim, why: Stop, *, sent: bool) -> Verdict:
    """Return the verdict on a call that was closed by us.

    A release relies on what this process itself knows: nothing was sent, so nothing is owed. A
    worker that ends takes no attempt; tasks that Celery ends again and again, with a time limit
    that is too short for the provider, at last do.
    """
    if why is Stop.CANCELLED:
        return Verdict(
            state=TurnState.CANCELLED, outcome="cancelled", error_code="cancelled", runs_on=True
        )
    if sent:
        return Verdict(
            state=TurnState.UNKNOWN,
            outcome="abandoned",
            gives_attempt_back=why is not Stop.REVOKED
            or _of_this_step(claim) < claim.max_attempts + MAX_FAULTS,
            error_code=why.value,
        )
    return Verdict(
        state=TurnState.QUEUED,
        outcome="released",
        gives_attempt_back=True,
        error_code=None,
        runs_on=True,
    )
