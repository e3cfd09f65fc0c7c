"""Targets of a claim: its session's own provider and model, and those that its fallback names.

They are counted from 0, which is the session's own. Sets of them are bits of a number, as rows
hold them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from turnmill.domain.adoption import AS_CONVERSATION, THREAD
from turnmill.domain.reply_limits import laid_over
from turnmill.domain.targets import FALLBACK, OF_SESSION, Target, targets_in
from turnmill.store.records import Claim, Own

#: Settings of a session that mean the same to every vendor; all others are its own vendor's.
_PORTABLE = OF_SESSION | {"max_output_tokens", "parallel_tool_calls", "timeout", "tool_choice"}


def has_targets(claim: Claim) -> bool:
    """Tell whether anybody but the session's own provider may answer."""
    return FALLBACK in claim.settings


def targets_of(claim: Claim) -> list[Target]:
    """Return all targets, the session's own first."""
    own = _own(claim)
    first = Target(provider=own.provider, model=own.model, settings=own.settings)
    return [first, *targets_in(own.settings)]


def aimed(claim: Claim) -> Claim:
    """Return the claim as its target is to be asked: no vendor's thread goes along to another."""
    own, target = _own(claim), _named(claim)
    if target is None:
        return _at_home(claim, own)
    threads = claim.provider_ref or claim.step_ref or claim.adopted
    return replace(
        claim,
        own=own,
        provider=target.provider,
        model=target.model,
        settings=_settings(own, target),
        provider_ref="",
        step_ref="",
        history=None if threads else claim.history,
    )


def moved(claim: Claim, target: int, *, because: str) -> Claim:
    """Return the claim for another target, which nobody has asked anything yet."""
    at_own = claim.target == 0
    there = replace(
        claim,
        target=target,
        native_ref="",
        asked_of=None,
        because=because if at_own else claim.because,
    )
    return aimed(there)


def next_after(target: int, *, among: int, benched: int) -> int | None:
    """Return whose turn it is after this target, of so many; None where all are benched."""
    order = (*range(target + 1, among), *range(target))
    return next((n for n in order if not benched >> n & 1), None)


def bits(targets: Iterable[int]) -> int:
    """Return the set of these."""
    return sum(1 << n for n in set(targets))


def of_provider(claim: Claim) -> int:
    """Return the set of all targets at the provider of this one."""
    return bits(n for n, one in enumerate(targets_of(claim)) if one.provider == claim.provider)


def alike(claim: Claim) -> int:
    """Return the set of all targets that ask just the same as this one: it is one of them."""
    own, listed = _own(claim), targets_of(claim)
    same = {
        n: (one.provider, one.model, _settings(own, one) if n else own.settings)
        for n, one in enumerate(listed)
    }
    this = same.get(claim.target)
    return bits([claim.target, *(n for n, one in same.items() if one == this)])


def _own(claim: Claim) -> Own:
    return claim.own or Own(claim.provider, claim.model, claim.settings)


def _named(claim: Claim) -> Target | None:
    """Return the target that is named; None for the session's own.

    The session may have been given others meanwhile. What was sent is asked for where it was sent.
    """
    if not claim.target:
        return None
    listed = targets_of(claim)
    found = listed[claim.target] if claim.target < len(listed) else None
    if claim.asked_of is None or (found and (found.provider, found.model) == claim.asked_of):
        return found
    same = [one for one in listed if (one.provider, one.model) == claim.asked_of]
    if not same:
        return Target(provider=claim.asked_of[0], model=claim.asked_of[1])
    return None if same[0] is listed[0] else same[0]


def _at_home(claim: Claim, own: Own) -> Claim:
    if claim.own is None:
        return replace(claim, target=0) if claim.target else claim
    return replace(
        claim, own=None, target=0, provider=own.provider, model=own.model, settings=own.settings
    )


def _settings(own: Own, target: Target) -> Mapping[str, Any]:
    """Return what a target is told: of the session's what it understands, and its own."""
    if own.provider == target.provider:
        base = dict(own.settings)
        if base.get(THREAD) == AS_CONVERSATION:
            base[THREAD] = "client"  # it is its session's, and goes on where the session does
    else:
        # Its vendor is to keep nothing: no later turn goes on from there.
        base = {name: one for name, one in own.settings.items() if name in _PORTABLE}
        base[THREAD] = "client"
    merged = laid_over(base, target.settings)
    return {name: one for name, one in merged.items() if one is not None}
