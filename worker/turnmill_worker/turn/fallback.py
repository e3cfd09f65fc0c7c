"""What a verdict becomes where a session names others who may answer.

A target that has failed in a way that another one may heal is benched, and the turn goes on at once
with the next: each under an attempt of its own. Where all have failed, that was a round: the next
one begins with the first, after a pause, as far as attempts go. What was perhaps executed is asked
about first, where it was sent.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

from turnmill.domain.errors import ContextFull, NotSent, ProviderError
from turnmill.domain.states import TurnState
from turnmill.domain.targets import name_of
from turnmill.store.records import Claim
from turnmill_worker.layers.targets import alike, bits, next_after, of_provider, targets_of
from turnmill_worker.providers.boundary import Answer
from turnmill_worker.providers.healing import bench_of
from turnmill_worker.providers.port import Absent, Failed, Unknowable
from turnmill_worker.turn.verdict import REFUSED, Rules, Verdict

#: Returns how many tokens a provider's model takes; None where nobody knows.
Window = Callable[[str, str], int | None]

_NOW = timedelta(0)


class _Out(NamedTuple):
    """Who is not asked next, and why the one that was asked is not."""

    benched: int
    given_up: int
    because: str


def moved_on(
    claim: Claim, found: Answer | ProviderError, judged: Verdict, *, rules: Rules, window: Window
) -> Verdict:
    """Return the verdict for a claim of a session that has targets."""
    if judged.state is TurnState.SUCCEEDED:
        return _answered(claim, judged)
    if isinstance(found, Absent | Unknowable):
        if not has_failed_there(claim) or judged.state not in (TurnState.RETRYING, TurnState.DEAD):
            return judged
        outcome = "absent" if isinstance(found, Absent) else "unknowable"
        judged = replace(judged, outcome=outcome, error_code=None)
        out = _Out(claim.benched, claim.given_up, claim.error_code or outcome)
        return _moved(claim, judged, out, rules)
    error = _error_in(claim, found)
    out_now = None if error is None else _out(claim, error, window)
    if out_now is None or judged.gives_attempt_back or judged.outcome == REFUSED:
        return judged  # or the same target is asked again first: in plain words, or with less
    if judged.state is TurnState.UNKNOWN:
        return _noted(claim, replace(judged, delay=_NOW), out_now)
    return _moved(claim, judged, out_now, rules)


def has_failed_there(claim: Claim) -> bool:
    """Tell whether a question is asked because its call has failed, and not its worker."""
    return bool(claim.benched >> claim.target & 1)


def _answered(claim: Claim, judged: Verdict) -> Verdict:
    if not claim.target:
        return judged
    name = name_of(claim.provider, claim.model)
    return replace(judged, answered_by=name, answered_because=claim.because)


def _error_in(claim: Claim, found: Answer | ProviderError) -> ProviderError | None:
    """Return the error of a call; that a question was not answered says nothing of the call."""
    if isinstance(found, Failed):
        return found.error
    return found if isinstance(found, ProviderError) and claim.kind == "send" else None


def _out(claim: Claim, error: ProviderError, window: Window) -> _Out | None:
    """Return who is out after this error; None where nobody else could do better."""
    this = alike(claim)
    if isinstance(error, ContextFull):
        gone = _too_small(claim, window)
        return _Out(claim.benched | gone, claim.given_up | gone, error.error_code)
    bench = bench_of(error, is_own=not claim.target)
    if bench is None:
        return None
    some = of_provider(claim) if bench.is_wide else this
    given_up = claim.given_up | (some if bench.lasts else 0)
    return _Out(claim.benched | given_up | some, given_up, error.error_code)


def _too_small(claim: Claim, window: Window) -> int:
    """Return those that would find the conversation too long, too, as far as is known."""
    most = window(claim.provider, claim.model)
    sizes = [window(one.provider, one.model) for one in targets_of(claim)]
    return bits(
        n
        for n, size in enumerate(sizes)
        if n == claim.target or (most is None or size is None or size <= most)
    )


def _moved(claim: Claim, judged: Verdict, out: _Out, rules: Rules) -> Verdict:
    """Return the verdict that goes on with the next target, or, after a pause, with the first."""
    among = len(targets_of(claim))
    following = next_after(claim.target, among=among, benched=out.benched)
    if following is None:
        return _round_over(claim, judged, out, rules)
    again = replace(
        judged,
        state=TurnState.RETRYING,
        outcome=judged.outcome if judged.outcome in ("absent", "unknowable") else "retrying",
        delay=_NOW,
        gives_attempt_back=claim.attempt >= claim.max_attempts,  # one each, whatever was spent
        target=following,
    )
    return _noted(claim, again, out)


def _round_over(claim: Claim, judged: Verdict, out: _Out, rules: Rules) -> Verdict:
    left = [n for n in range(len(targets_of(claim))) if not out.given_up >> n & 1]
    if not left or judged.state is TurnState.DEAD:
        return judged
    if claim.attempt >= claim.max_attempts:
        code = judged.error_code or out.because
        return replace(judged, state=TurnState.DEAD, outcome="dead", error_code=code)
    return _noted(
        claim,
        replace(
            judged,
            state=TurnState.RETRYING,
            outcome="retrying" if judged.state is not TurnState.RETRYING else judged.outcome,
            delay=_pause(claim, judged, left, rules),
            target=left[0],
        ),
        out._replace(benched=out.given_up),
    )


def _pause(claim: Claim, judged: Verdict, left: list[int], rules: Rules) -> timedelta:
    """Return how long it is until the next round; what one vendor asks for, another does not."""
    if left == [claim.target] and judged.state is TurnState.RETRYING and judged.delay:
        return judged.delay
    rounds = max(claim.attempt // len(targets_of(claim)), 1)
    delay = rules.policy.delay_after(
        NotSent(), attempt=rounds, max_attempts=rounds + 1, jitter=rules.jitter
    )
    return delay or _NOW


def _noted(claim: Claim, verdict: Verdict, out: _Out) -> Verdict:
    return replace(
        verdict,
        benched=out.benched,
        given_up=out.given_up,
        answered_because=(claim.because if claim.target else None) or out.because,
    )
