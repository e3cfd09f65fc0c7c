"""One attempt: a provider is asked through all layers, and what came of it is judged."""

import logging
import time
from collections.abc import Callable
from decimal import Decimal

from turnmill.domain.content import TEXT_ONLY
from turnmill.domain.content import Kind as PartKind
from turnmill.domain.errors import MaybeSent, NotSent, ProviderError
from turnmill.domain.states import TurnState
from turnmill.store.records import Claim, Settlement
from turnmill_worker.layers.call import Call, Kind
from turnmill_worker.layers.holding import Holding, Stop
from turnmill_worker.layers.partial import Partial
from turnmill_worker.layers.targets import has_targets
from turnmill_worker.providers import boundary, calls
from turnmill_worker.providers.boundary import Answer, Bug, Fault
from turnmill_worker.providers.port import Done, Emit, Provider, Request, Usage
from turnmill_worker.turn import estimates, settlements, verdict
from turnmill_worker.turn.deps import Deps
from turnmill_worker.turn.fallback import moved_on
from turnmill_worker.turn.in_hand import end_of
from turnmill_worker.turn.lent import with_thread
from turnmill_worker.turn.verdict import Rules, Verdict

logger = logging.getLogger("turnmill.turn")

#: What came of an attempt to ask a provider.
Found = Answer | ProviderError | Stop


async def attempt(holding: Holding, deps: Deps) -> Settlement:
    """Return the verdict over one attempt in hand; raises nothing of the provider's."""
    began = time.monotonic()
    holding.withheld = None
    came = await _call(holding, deps)
    elapsed = time.monotonic() - began
    found = judged(came, holding, deps)
    answered, estimate = found.reply or holding.withheld, None
    if answered is None:
        estimate = await calls.shielded(
            estimates.estimated(came, holding, deps.ledger.history, deps.gauge)
        )
        answered = found.used if estimate is None else None
    if answered is not None:
        estimates.learn(deps.gauge, holding, answered)
    settlement = _settlement(found, answered, estimate, holding, deps, took=elapsed)
    return with_thread(settlement, holding)


def _settlement(
    found: Verdict,
    answered: Done | None,
    estimate: Usage | None,
    holding: Holding,
    deps: Deps,
    *,
    took: float,
) -> Settlement:
    """Return what is written of the attempt, which took so many seconds, with what it has cost."""
    claim = holding.claim  # of whoever was asked in the end
    cost, priced_by = _cost(claim, answered, estimate, deps)
    return settlements.settlement(
        claim,
        found,
        provider_ms=round(took * 1000),
        cost_usd=_with_owed(cost, answered or estimate, holding),
        priced_by=priced_by,
        reserved=holding.reserved,
        may_have_cost=not answered and _may_have_cost(found, estimate, holding),
        estimate=estimate,
        withheld=holding.withheld,
        partial=None if found.reply else holding.partial,
        first_token_ms=None if holding.partial is None else holding.partial.first_token_ms,
    )


def judged(found: Found, holding: Holding, deps: Deps) -> Verdict:
    """Return the verdict over what came of an attempt of the claim in hand."""
    claim = holding.claim
    if found is Stop.REVOKED and claim.kind != "send":
        found = NotSent(found.value)  # a question: it is asked again after a pause
    if found is Stop.TIMED_OUT:
        found = (MaybeSent if holding.sent else NotSent)(found.value)
    if isinstance(found, Stop):
        return verdict.of_stop(claim, found, sent=holding.sent)
    rules = _rules(deps)
    if isinstance(found, Fault):
        return verdict.of_fault(claim, found, rules=rules)
    if isinstance(found, ProviderError):
        found_out = verdict.of_error(claim, found, rules=rules)
    else:
        found_out = verdict.of_answer(claim, found, rules=rules)
    if not (claim.target or has_targets(claim)):
        return found_out
    return moved_on(claim, found, found_out, rules=rules, window=deps.window)


def _rules(deps: Deps) -> Rules:
    return Rules(policy=deps.policy, jitter=deps.jitter(), patience=deps.background_timeout)


def _cost(
    claim: Claim, reply: Done | None, estimate: Usage | None, deps: Deps
) -> tuple[Decimal | None, str]:
    """Return the price of what was used, where anything was, and what it is by."""
    usage = reply.usage if reply else estimate
    if usage is None:
        return None, ""
    model = (reply.model if reply else "") or claim.model
    cost = boundary.cost_of(lambda: deps.price(claim.provider, model, usage))
    if cost is None:
        return None, ""
    source = boundary.attempted(
        "a price list", lambda: deps.price_source(claim.provider, model, usage.service_tier)
    )
    return cost, source or ""


def _with_owed(cost: Decimal | None, used: Done | Usage | None, holding: Holding) -> Decimal | None:
    """Return the cost with that of calls which are in no books so far.

    These are the ones before the last, and the last one where a layer has kept its reply back.
    """
    if used is not None and cost is None:
        return None  # an unknown part makes an unknown sum
    owed = holding.owed
    if used is None:
        last, is_known = holding.last_cost()
        owed += last if is_known else 0
    return (cost or 0) + owed if owed else cost


def _may_have_cost(found: Verdict, estimate: Usage | None, holding: Holding) -> bool:
    """Tell whether nobody knows what the last call has cost: then it is all that was reserved.

    Of one that we have cut ourselves while its reply came, our estimate is as good as any.
    """
    most, is_known = holding.last_cost()
    if is_known or not most:
        return False
    came = holding.partial is not None and holding.partial.bytes > 0
    return not (found.state is TurnState.CANCELLED and came and estimate is not None)


async def _call(holding: Holding, deps: Deps) -> Found:
    """Make the call in a task of its own, so that it can be closed, or left behind, without us."""
    if not holding.may_begin():
        return holding.stop or Stop.LEASE_LOST
    call = holding.call = calls.Call(_asked(holding, deps))
    await end_of(call, holding, accepting=deps.accepting)
    found = call.result()
    if holding.stop is not None and (found is None or isinstance(found, Bug)):
        return holding.stop  # it was us: what a call raises when it is closed tells nothing
    # Cancelled, and by nobody of ours: by a future, say, that a provider shares between turns.
    return Bug("bug:CancelledError") if found is None else found


async def _asked(holding: Holding, deps: Deps) -> Found:
    """Ask through all layers, and return what came of it."""
    claim = holding.claim
    kind: Kind = "send" if claim.kind == "send" else "check"
    found: ProviderError
    try:
        emit = _emit(claim, holding, most=deps.max_reply_bytes)
        request = request_of(claim, holding.partial)
        if deps.steps.are_taken(claim):
            request = await deps.steps.equipped(request, claim)
        elif claim.history is not None and _may_go(claim, deps):
            claim.history.can_be_read_again(deps.ledger.history, claim.session_id)
        call = Call(
            claim=claim,
            request=request,
            kind=kind,
            holding=holding,
            emit=emit,
            takes=_taken(deps.provider, claim.provider),
        )
        go = deps.chains.of(claim)
        return await go(call)
    except ProviderError as error:
        found = error
    except Exception as error:  # noqa: BLE001
        # The edge of a turn, which has to come to an end. All that is raised as such is ours.
        found = Fault(f"bug:{boundary.name_of(error)}"[:64])
    if isinstance(found, Fault):
        # Nothing is owed: the turn is given back with its attempt, as soon as the store takes it.
        logger.warning(
            "cannot ask a provider: %s", found.error_code, extra={"turn_id": str(claim.turn_id)}
        )
    return found


def _may_go(claim: Claim, deps: Deps) -> bool:
    """Tell whether nobody looks at the history of this claim once it was sent, but in need.

    What goes on in the background is sized as soon as it has begun.
    """
    in_background = claim.settings.get("background")
    return not in_background and deps.chains.is_seen_once(claim) and not deps.gauge.keeps_one()


def _emit(claim: Claim, holding: Holding, *, most: int) -> Emit | None:
    """Return what is given the pieces of a reply that is streamed: kept, and told to readers."""
    if not claim.stream:
        return None
    partial = holding.partial = Partial(most=most)
    return partial.keeping(None if holding.publishing is None else holding.publishing.emit)


def _taken(find: Callable[[str], Provider], name: str) -> frozenset[PartKind]:
    provider = boundary.provided(find, name)
    # Where there is none, whoever is to ask it says so.
    return TEXT_ONLY if isinstance(provider, ProviderError) else boundary.taken_by(provider)


def request_of(claim: Claim, partial: Partial | None = None) -> Request:
    """Return what the provider is given for this claim; a long history is read later."""
    return Request(
        turn_id=claim.turn_id,
        session_id=claim.session_id,
        user_id=claim.user_id,
        attempt=claim.attempt,
        fence=claim.fence,
        model=claim.model,
        messages=claim.messages,
        history=() if claim.history is None else claim.history,
        system_prompt=claim.system_prompt,
        thread_ref=claim.step_ref or claim.provider_ref,
        native_ref=claim.native_ref,
        settings=claim.settings,
        metadata=claim.metadata,
        step=claim.step,
        is_single=claim.batch_id is not None and _begins(claim),
        counted=None if partial is None else partial.count,
    )


def _begins(claim: Claim) -> bool:
    """Tell whether nothing was said in the session before; a history that is read later is long."""
    if claim.step > 1 or claim.provider_ref or claim.history is None:
        return False
    return not claim.history
