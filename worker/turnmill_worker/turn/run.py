"""Running a turn: claim, ask, settle. Knows nothing of Celery."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from turnmill.domain.content import TEXT_ONLY
from turnmill.domain.content import Kind as PartKind
from turnmill.domain.errors import MaybeSent, NotSent, ProviderError, StoreError
from turnmill.domain.ids import TurnId
from turnmill.domain.retry import RetryPolicy
from turnmill.domain.states import Lane, TurnState
from turnmill.store.records import Claim, Fenced, Head, Settled, Settlement
from turnmill_worker.layers.budget import Budgeting
from turnmill_worker.layers.call import Call, Kind, Layer
from turnmill_worker.layers.chains import Chains, ThreadStore
from turnmill_worker.layers.compaction import Shortening
from turnmill_worker.layers.history import chosen
from turnmill_worker.layers.holding import Holding, Stop
from turnmill_worker.layers.partial import Partial
from turnmill_worker.layers.registered import Named
from turnmill_worker.layers.targets import aimed, has_targets
from turnmill_worker.providers import boundary, calls
from turnmill_worker.providers.boundary import Answer, Bug, Fault
from turnmill_worker.providers.port import Done, Emit, Provider, Request, Usage
from turnmill_worker.streams.carriers import Nobody
from turnmill_worker.streams.publishing import Carrier
from turnmill_worker.tools.offered import Tools
from turnmill_worker.turn import estimates, verdict
from turnmill_worker.turn.beside import Beside
from turnmill_worker.turn.failing import FAILING, warn_of_failure
from turnmill_worker.turn.fallback import Window, moved_on
from turnmill_worker.turn.gauge import Gauge
from turnmill_worker.turn.in_hand import InHand, end_of
from turnmill_worker.turn.ledger import UNSTORABLE, Ledger
from turnmill_worker.turn.lent import with_thread
from turnmill_worker.turn.slots import Slots
from turnmill_worker.turn.step_ledger import StepLedger
from turnmill_worker.turn.steps import Asking, Steps
from turnmill_worker.turn.verdict import Rules, Verdict
from turnmill_worker.turn.written import Told, tell

logger = logging.getLogger("turnmill.turn")

#: What came of an attempt to ask a provider.
Found = Answer | ProviderError | Stop

T = TypeVar("T")

#: Turns of other users that one hint lets go first.
_MOST_BEFORE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Deps:
    """What running turns needs; one of it in each process."""

    ledger: Ledger
    in_hand: InHand
    slots: Slots
    provider: Callable[[str], Provider]  #: by name; raises ProviderUnknown or KeyMissing
    announce: Callable[[Head], None]  #: tells a worker; never blocks, never raises
    announce_at: Callable[[Head, datetime], None]  #: the same at a later moment, best effort
    price: Callable[[str, str, Usage], Decimal | None]  #: provider, model, usage
    #: provider, model, tier: what such a price is by
    price_source: Callable[[str, str, str], str] = lambda *_: ""
    window: Window = lambda *_: None  #: how many tokens a provider's model takes in
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    layers: Sequence[Named] = ()  #: that the operator registered, outermost first
    carrier: Carrier = field(default_factory=Nobody)  #: of what is said to those who watch
    measure: Layer | None = None  #: outside of them, where calls are counted
    defaults: Layer | None = None  #: parameters that the operator's file gives to models
    tools: Tools = field(default_factory=Tools)  #: that the operator registered
    step_ledger: StepLedger | None = None  #: None: no turn takes more than one step
    threads: ThreadStore | None = None  #: None: no thread of a vendor's is lent, or adopted
    told: Told | None = None  #: after each commit
    gates: Sequence[Layer] = ()  #: right before each call
    beside: Beside = field(default_factory=Beside)  #: of other users than those who were hinted at
    accepting: Callable[[], bool] = lambda: True  #: whether a turn may still be claimed
    turn_timeout: timedelta = timedelta(minutes=10)
    max_reply_bytes: int = boundary.MAX_REPLY_BYTES
    background_timeout: timedelta = verdict.BACKGROUND_TIMEOUT
    jitter: Callable[[], float] = random.random
    gauge: Gauge = field(default_factory=Gauge, repr=False)  #: for calls that nobody counts
    chains: Chains = field(init=False, repr=False)  #: all around the providers
    steps: Steps = field(init=False, repr=False)  #: of turns whose models call tools

    def __post_init__(self) -> None:
        chains = Chains(
            find=self.provider,
            read_history=chosen(self.ledger.history, self.ledger.history_after),
            shortening=Shortening(
                spoken=self.ledger.spoken,
                keep=self.ledger.keep_compaction,
                price=self.price,
                source=self.price_source,
            ),
            mark_sent=self.ledger.mark_sent,
            mark_target=self.ledger.mark_target,
            turn_timeout=self.turn_timeout,
            max_reply_bytes=self.max_reply_bytes,
            theirs=self.layers,
            measure=self.measure,
            threads=self.threads,
            gates=self.gates,
            defaults=self.defaults,
            budgeting=Budgeting(
                find=self.provider,
                price=self.price,
                reserve=self.ledger.reserve,
                read_thread=self.ledger.history,
            ),
        )
        object.__setattr__(self, "chains", chains)
        steps = Steps(ledger=self.step_ledger, tools=self.tools, accepting=self.accepting)
        object.__setattr__(self, "steps", steps)


@dataclass(frozen=True, slots=True)
class NotOurs:
    """Somebody else runs the turn, or nobody may: nothing was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The verdict stands in the store."""

    turn_id: TurnId
    state: TurnState
    due_at: datetime | None  #: when the turn comes again; None when it is final
    error_code: str | None

    @property
    def is_failure(self) -> bool:
        return self.state in FAILING


@dataclass(frozen=True, slots=True)
class Outrun:
    """What we found out changes nothing: the lease was lost before it could be written."""


Outcome = NotOurs | Ended | Outrun


async def run_turn(turn_id: TurnId, deps: Deps) -> Outcome:
    """Run the turn if it is ours to run. May be called any number of times for one turn.

    Where it is another one's turn first, that one gets the slot, and this one the next.
    """
    for before in range(_MOST_BEFORE):
        await deps.slots.take_one(again=before > 0)
        with ExitStack() as slot:
            slot.callback(deps.slots.give_back)
            # Where we accept nothing the hint is gone, and the row is not: another dispatcher
            # announces it.
            claim = await _claim(turn_id, deps) if deps.accepting() else None
            if claim is None:
                return NotOurs()
            if claim.turn_id == turn_id:
                return await run_claim(claim, deps)
            deps.beside.begin(run_one(claim, deps), then=slot.pop_all().close)
    return NotOurs()  # the dispatcher announces it again


async def _claim(turn_id: TurnId, deps: Deps) -> Claim | None:
    crowded = deps.slots.free(Lane.INTERACTIVE) < 1
    try:
        return await deps.ledger.claim(turn_id, crowded=crowded)
    except StoreError as error:
        logger.warning("cannot claim: %s", error.code, extra={"turn_id": str(turn_id)})
    except Exception as error:  # noqa: BLE001
        # The edge to Celery, which would log the words of the error: they may quote a row.
        name = boundary.name_of(error)
        logger.error("a claim failed: %s", name, extra={"turn_id": str(turn_id)})
    return None


async def run_one(claim: Claim, deps: Deps) -> Outcome | None:
    """Run one of many turns, and raise nothing; None where not even its outcome is known."""
    try:
        return await run_claim(claim, deps)
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001
        # The edge to its neighbours: whatever is wrong with one turn must not stop the others.
        logger.error("a turn ended with %s", boundary.name_of(error))
    return None


async def run_claim(claim: Claim, deps: Deps) -> Outcome:
    """Ask the provider and write down what came of it, whatever it is.

    Where the session has others who may answer, they are asked one after the other: whoever waits
    for a reply does not wait in line for each.
    """
    while True:
        claim, settlement, settled = await _run_once(claim, deps)
        again = await _at_once(settlement, settled, deps)
        if again is None or isinstance(settled, Fenced):
            return _report(claim, settlement, settled, deps)
        tell(deps.told, claim, settlement, settled)
        claim = again


async def _at_once(settlement: Settlement, settled: Settled | Fenced, deps: Deps) -> Claim | None:
    """Take the turn again where it goes on with another target, and nobody has taken it."""
    goes_on = settlement.benched is not None and not settlement.delay
    if not goes_on or isinstance(settled, Fenced) or settled.due_at is None:
        return None
    return await _claim(settlement.turn_id, deps) if deps.accepting() else None


async def _run_once(claim: Claim, deps: Deps) -> tuple[Claim, Settlement, Settled | Fenced]:
    with deps.in_hand.holding(claim) as holding:
        claim = holding.claim = aimed(claim) if claim.target else claim
        if claim.stream and claim.kind == "send":
            holding.publishing = deps.carrier.begin(claim)
        if deps.steps.are_taken(claim):
            settlement, settled = await deps.steps.run(holding, _asking(holding, deps))
            claim = holding.claim
        else:
            settlement = await attempt(claim, holding, deps)
            settled = await _written(settlement, deps)
            claim = holding.claim
        if holding.publishing is not None:
            holding.publishing.ended(None if isinstance(settled, Fenced) else settled.state)
    if isinstance(settled, Fenced) and settlement.kept:
        await shielded(deps.ledger.keep_late(settlement))
    return claim, settlement, settled


def _asking(holding: Holding, deps: Deps) -> Asking:
    def again(first: bool) -> None:
        if holding.publishing is not None:
            holding.publishing.ended(None)
        if holding.claim.stream:
            holding.publishing = deps.carrier.begin(holding.claim, first=first)

    def judge(found: Stop | ProviderError) -> Settlement:
        judged = _verdict(holding.claim, found, holding, deps)
        return verdict.settlement(
            holding.claim,
            judged,
            provider_ms=0,
            cost_usd=None,
            reserved=holding.reserved,
            may_have_cost=bool(holding.last),
        )

    def told(claim: Claim, settlement: Settlement) -> None:
        stands = Settled(turn_id=claim.turn_id, state=settlement.state, due_at=None, next=None)
        tell(deps.told, claim, settlement, stands)

    return Asking(
        ask=lambda: attempt(holding.claim, holding, deps),
        judge=judge,
        write=lambda settlement: _written(settlement, deps),
        told=told,
        again=again,
    )


async def attempt(claim: Claim, holding: Holding, deps: Deps) -> Settlement:
    """Return the verdict over one attempt; raises nothing of the provider's."""
    began = time.monotonic()
    holding.withheld = None
    came = await _call(claim, holding, deps)
    claim = holding.claim  # of whoever was asked in the end
    elapsed = time.monotonic() - began
    found = _verdict(claim, came, holding, deps)
    answered = found.reply or holding.withheld
    if answered:
        estimate = None
        estimates.learn(deps.gauge, holding, answered)
    else:
        estimate = await estimates.estimated(came, holding, deps.ledger.history, deps.gauge)
    cost, priced_by = _cost(claim, answered, estimate, deps)
    settlement = verdict.settlement(
        claim,
        found,
        provider_ms=round(elapsed * 1000),
        cost_usd=_with_owed(cost, estimate, found, holding),
        priced_by=priced_by,
        reserved=holding.reserved,
        may_have_cost=_may_have_cost(found, estimate, holding),
        estimate=estimate,
        withheld=holding.withheld,
        partial=None if found.reply else holding.partial,
        first_token_ms=None if holding.partial is None else holding.partial.first_token_ms,
    )
    return with_thread(settlement, holding)


def _verdict(claim: Claim, found: Found, holding: Holding, deps: Deps) -> Verdict:
    if found is Stop.REVOKED and claim.kind != "send":
        found = NotSent(found.value)  # a question: it is asked again after a pause
    if found is Stop.TIMED_OUT:
        found = (MaybeSent if holding.sent else NotSent)(found.value)
    if isinstance(found, Stop):
        return verdict.of_stop(claim, found, sent=holding.sent)
    rules = _rules(deps)
    if isinstance(found, Fault):
        return verdict.of_fault(claim, found, **rules)
    if isinstance(found, ProviderError):
        judged = verdict.of_error(claim, found, **rules)
    else:
        judged = verdict.of_answer(claim, found, **rules)
    if not (claim.target or has_targets(claim)):
        return judged
    return moved_on(claim, found, judged, rules=rules, window=deps.window)


def _rules(deps: Deps) -> Rules:
    return {"policy": deps.policy, "jitter": deps.jitter(), "patience": deps.background_timeout}


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


def _with_owed(
    cost: Decimal | None, estimate: Usage | None, found: Verdict, holding: Holding
) -> Decimal | None:
    """Return the cost with that of calls which came before, and are in no books so far."""
    if not holding.owed or (cost is None and (found.reply or estimate)):
        return cost  # nothing is owed, or an unknown part makes an unknown sum
    return holding.owed if cost is None else cost + holding.owed


def _may_have_cost(found: Verdict, estimate: Usage | None, holding: Holding) -> bool:
    """Tell whether nobody knows what the last call has cost: then it is all that was reserved.

    Of one that we have cut ourselves while its reply came, our estimate is as good as any.
    """
    if found.reply or not holding.last:
        return False
    came = holding.partial is not None and holding.partial.bytes > 0
    return not (found.state is TurnState.CANCELLED and came and estimate is not None)


async def _call(claim: Claim, holding: Holding, deps: Deps) -> Found:
    """Make the call in a task of its own, so that it can be closed, or left behind, without us."""
    if not holding.may_begin():
        return holding.stop or Stop.LEASE_LOST
    call = holding.call = calls.Call(_asked(claim, holding, deps))
    await end_of(call, holding, accepting=deps.accepting)
    found = call.result()
    if holding.stop is not None and (found is None or isinstance(found, Bug)):
        return holding.stop  # it was us: what a call raises when it is closed tells nothing
    # Cancelled, and by nobody of ours: by a future, say, that a provider shares between turns.
    return Bug("bug:CancelledError") if found is None else found


async def _asked(claim: Claim, holding: Holding, deps: Deps) -> Found:
    """Ask through all layers, and return what came of it."""
    kind: Kind = "send" if claim.kind == "send" else "check"
    found: ProviderError
    try:
        emit = _emit(claim, holding, most=deps.max_reply_bytes)
        call = Call(
            claim=claim,
            request=await deps.steps.equipped(request_of(claim, holding.partial), claim),
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


async def _written(settlement: Settlement, deps: Deps) -> Settled | Fenced:
    """Write the verdict; where the store does not take it for long, the lease is lost by now."""
    try:
        return await shielded(deps.ledger.settle(settlement))
    except Exception as error:  # noqa: BLE001
        # The edge to Celery, which would log the words of the error: they may quote a reply.
        code = error.code if isinstance(error, StoreError) else boundary.name_of(error)
        logger.error(
            "a verdict cannot be written: %s",
            code,
            extra={"action": "unwritten", "turn_id": str(settlement.turn_id)},
        )
        return Fenced(turn_id=settlement.turn_id)


async def shielded(writing: Coroutine[Any, Any, T]) -> T:
    """Finish writing even when the task is cancelled: a verdict in hand is not dropped."""
    call = calls.Call(writing)
    while not call.over:
        with suppress(asyncio.CancelledError):
            await call.wait()
    return call.value()


def _report(claim: Claim, settlement: Settlement, settled: Settled | Fenced, deps: Deps) -> Outcome:
    if isinstance(settled, Fenced):
        logger.warning(
            "lease lost before the verdict; nothing was changed",
            extra={"action": "fenced", "turn_id": str(claim.turn_id), "fence": claim.fence},
        )
        return Outrun()
    if settled.next is not None or settled.due_at is not None:
        boundary.attempted("an announcement", lambda: _announce(claim, settled, deps))
    tell(deps.told, claim, settlement, settled)
    code = settlement.error_code
    if settled.state in FAILING:
        # A reply that the tables do not take fails its turn, whatever the verdict said.
        code = code or UNSTORABLE
        warn_of_failure(claim, settled.state, code)
    return Ended(turn_id=claim.turn_id, state=settled.state, due_at=settled.due_at, error_code=code)


def _announce(claim: Claim, settled: Settled, deps: Deps) -> None:
    if settled.next is not None:
        deps.announce(settled.next)
    elif settled.due_at is not None:
        head = Head(turn_id=claim.turn_id, session_id=claim.session_id, lane=claim.lane)
        deps.announce_at(head, settled.due_at)
