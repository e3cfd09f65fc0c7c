"""From a verdict to what is written about its attempt: with what the call has used and cost."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from turnmill.domain.checks import storable
from turnmill.domain.content import Message, Part, Text, changed
from turnmill.domain.states import Lane, TurnState
from turnmill.store.records import Claim, Kept, Settlement
from turnmill.store.rules.settling import COUNTS
from turnmill_worker.layers.partial import Partial
from turnmill_worker.providers.figures import figures
from turnmill_worker.providers.port import Done, Usage
from turnmill_worker.turn.verdict import Verdict, ids_of


def settlement(
    claim: Claim,
    verdict: Verdict,
    *,
    provider_ms: int,
    cost_usd: Decimal | None,
    priced_by: str = "",
    estimate: Usage | None = None,
    withheld: Done | None = None,
    partial: Partial | None = None,
    first_token_ms: int | None = None,
    reserved: bool = False,
    may_have_cost: bool = False,
) -> Settlement:
    """Return the verdict with the identity of the turn, and what the call has used and cost.

    Without a reply, `estimate` says what it has used, or an answer that was `withheld`, or what the
    vendor has counted all the same, and `partial` what had come of one. Where
    something is `reserved` for it and nobody knows what it has cost, it `may_have_cost` all of it.
    """
    answered = verdict.reply or withheld or (None if estimate else verdict.used)
    usage = answered.usage if answered else estimate
    is_unpriced = usage is not None and cost_usd is None
    return Settlement(
        turn_id=claim.turn_id,
        session_id=claim.session_id,
        fence=claim.fence,
        state=verdict.state,
        outcome=verdict.outcome,
        gives_attempt_back=verdict.gives_attempt_back,
        delay=verdict.delay,
        **_answered(claim, verdict.reply),
        partial="" if partial is None else storable(partial.text),
        first_token_ms=first_token_ms,
        position=claim.next_position,
        native_ref=verdict.native_ref,
        request_id=verdict.request_id,
        model=(answered.model if answered else "") or claim.model,
        error_code=verdict.error_code,
        error_detail=verdict.error_detail,
        **_used(usage),
        cost_usd=cost_usd,
        priced_by=priced_by or None,
        estimated=usage is not None and answered is None,
        counts_again=claim.estimated and verdict.tells,
        provider_ms=provider_ms,
        kept=_kept(claim, verdict),
        waits_for=verdict.waits_for,
        has_calls=claim.step > 1,
        **_whom(verdict),
        batched=claim.batch_id is not None,
        reconciles=_looks_again(claim) and verdict.tells,
        budgeted=reserved or _looks_again(claim),
        unsettled=reserved and (may_have_cost or is_unpriced),
        priced=not is_unpriced,
        bulk=claim.lane is Lane.BULK,
    )


def _looks_again(claim: Claim) -> bool:
    """Tell whether the claim is of a call of before, for which something was reserved then."""
    return claim.budgeted and claim.kind != "send"


def _answered(claim: Claim, reply: Done | None) -> dict[str, Any]:
    """Return what a reply adds to the session; without one nothing."""
    if reply is None:
        return {"replies": (), "finish_reason": None, "provider_ref": None}
    return {
        "replies": (Message("assistant", _storable(reply.parts)),),
        "finish_reason": reply.finish_reason,
        # Where another target has answered, the thread of the session's own lacks this turn.
        "provider_ref": "" if claim.target else reply.thread_ref,
    }


def _whom(verdict: Verdict) -> dict[str, Any]:
    """Return whom the turn has gone to, and why."""
    return {
        "target": verdict.target,
        "benched": verdict.benched,
        "given_up": verdict.given_up,
        "answered_because": verdict.answered_because,
        "answered_by": verdict.answered_by,
    }


def _used(usage: Usage | None) -> dict[str, Any]:
    """Return what the call has used, as counted and as said; without usage nothing was used."""
    return {
        "usage": figures(usage.said) if usage else None,
        "service_tier": (usage.service_tier or None) if usage else None,
        **{name: getattr(usage, name) if usage else 0 for name in COUNTS},
    }


def _storable(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Return the parts with what no database stores replaced."""
    return tuple([_storable_part(part) for part in parts])


def _storable_part(part: Part) -> Part:
    if not isinstance(part, Text):
        return changed(part, storable)
    text = storable(part.text)
    return part if text is part.text else Text(text)


def _kept(claim: Claim, verdict: Verdict) -> tuple[Kept, ...]:
    """Return what the vendor keeps of this turn by now, and whether anybody will come back to it.

    Only what a succeeded turn left is continued from, and only a waiting one's work is looked up.
    """
    work = verdict.native_ref or claim.native_ref
    if not (work or verdict.kept):
        return ()
    waits = verdict.state is TurnState.WAITING or verdict.state is TurnState.QUEUED
    goes_on = waits or (verdict.state is TurnState.SUCCEEDED and not claim.target)
    return tuple(
        Kept(
            ref=ref,
            provider=claim.provider,
            stored=ref in verdict.kept,
            running=ref == work and verdict.runs_on,
            wanted=(waits and ref == work) or (goes_on and ref in verdict.kept),
        )
        for ref in dict.fromkeys((*verdict.kept, *ids_of(work), *ids_of(claim.native_ref)))
    )
