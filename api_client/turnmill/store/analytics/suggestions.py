"""Everything that rules find in a window: figures are read, and rules look at them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy import Connection

from turnmill.domain.analytics.suggesting import (
    failures,
    histories,
    lengths,
    models,
    rounds,
    trying,
    waiting,
)
from turnmill.domain.analytics.suggesting.findings import Finding, Suggestion, suggestion_of
from turnmill.domain.analytics.suggesting.histories import CacheUse, GrowthUse
from turnmill.domain.analytics.suggesting.lengths import LengthUse
from turnmill.domain.analytics.suggesting.models import ModelUse
from turnmill.domain.analytics.windows import Window
from turnmill.store.analytics import behaviours, evidence, evidence_of_rounds, tried_models
from turnmill.store.analytics.asking import Question, answer, answers
from turnmill.store.analytics.behaviours import BehaviourCluster
from turnmill.store.analytics.drawn import Drawn
from turnmill.store.analytics.ended_turns import Scope, Seen

T = TypeVar("T", CacheUse, GrowthUse)


def suggest(conn: Connection, scope: Scope, *, drawn: Drawn | None = None) -> Suggestion:
    """Return what might be changed, about a session, a user's sessions, or all.

    For everybody, what is `drawn` may stand; what a change may bring is said of all.
    """
    return _look(conn, scope, drawn, lambda _: ())[0]


def with_behaviours(
    conn: Connection, window: Window, *, drawn: Drawn | None
) -> tuple[Suggestion, list[BehaviourCluster]]:
    """Return the same of everybody, and what turns of each kind came to: all of one look."""
    share = 1.0 if drawn is None else drawn.sessions.share
    found, (clusters,) = _look(
        conn, Scope(window=window), drawn, lambda seen: (behaviours.counted(seen, share),)
    )
    return found, clusters[0]


def _look(
    conn: Connection,
    scope: Scope,
    drawn: Drawn | None,
    beside: Callable[[Seen], Sequence[Question[Any]]],
) -> tuple[Suggestion, list[list[Any]]]:
    """Return what is suggested, and answers to what else is asked of the same turns."""
    of_all = Scope(window=scope.window) if drawn is None else drawn.sessions
    looked_at = of_all if scope.is_whole else scope
    seen = Seen.of(looked_at)
    asked = list(_asked(seen, whole=scope.is_whole))
    found = answers(conn, [*asked, *beside(seen)], at_once=looked_at.drawn is not None)
    told = found[: len(asked)]
    findings = [
        *(_for_all(one, looked_at.share) for one in _of_turns(conn, looked_at, of_all, told)),
        *_of_hours(conn, scope, drawn),
    ]
    of_lengths: Sequence[LengthUse] = told[_LENGTHS]
    suggestion = suggestion_of(findings, longest=lengths.longest_of(of_lengths))
    if drawn is not None and scope.is_whole:
        suggestion = replace(suggestion, looked_at=drawn.sessions.share)
    return suggestion, found[len(asked) :]


def _of_hours(conn: Connection, scope: Scope, drawn: Drawn | None) -> Iterator[Finding]:
    """Yield what is found of workers and targets: what they do is everybody's."""
    if scope.is_whole:
        calls = evidence.call_hours(conn, scope if drawn is None else drawn.calls)
        yield from failures.retry_storms(calls)
        yield from failures.dead_targets(calls)
        queues = evidence.queue_hours(conn, scope if drawn is None else drawn.queues)
        yield from waiting.few_workers(queues)


#: Which of the questions is of lengths.
_LENGTHS = 2


def _asked(seen: Seen, *, whole: bool) -> Iterator[Question[Any]]:
    yield evidence.model_uses(seen)
    yield evidence.ratings(seen)
    yield evidence.length_uses(seen)
    yield evidence.cache_uses(seen)
    yield evidence.growth_uses(seen)
    yield evidence_of_rounds.tool_uses(seen)
    yield evidence_of_rounds.patience(seen)
    if whole:
        yield evidence.hasty_works(seen)


def _of_turns(
    conn: Connection, scope: Scope, everybody: Scope, told: Sequence[list[Any]]
) -> Iterator[Finding]:
    uses, rated, of_lengths, caches, growths, of_tools, patience, *hasty = told
    uses = models.with_ratings(uses, rated)
    others = _others(conn, uses, everybody) if not hasty else None
    prices = evidence.prices_of([*uses, *(others or ())])
    yield from models.cheaper_models(uses, others)
    yield from trying.tried(tried_models.read(conn, scope.window), uses)
    yield from lengths.answers_cut(of_lengths)
    yield from lengths.limits_too_high(of_lengths)
    yield from histories.unused_caches(_priced(caches, prices))
    yield from histories.growing_histories(_priced(growths, prices))
    yield from rounds.tool_loops(of_tools)
    yield from rounds.sent_again(patience)
    for works in hasty:
        yield from waiting.could_wait(works)


def _others(conn: Connection, uses: Sequence[ModelUse], everybody: Scope) -> list[ModelUse]:
    """Return what the same tasks came to for everybody."""
    tasks = sorted({one.task for one in uses if one.task})
    if not tasks:
        return []
    seen = Seen.of(everybody)
    rated = answer(conn, evidence.ratings(seen, tasks=tasks))
    return models.with_ratings(answer(conn, evidence.model_uses(seen, tasks=tasks)), rated)


def _priced(uses: Sequence[T], prices: evidence.Prices) -> list[T]:
    return [replace(one, usd_a_token=prices.get((one.provider, one.model))) for one in uses]


def _for_all(found: Finding, share: float) -> Finding:
    """Return it with what a change may bring to all, of whom a share was looked at."""
    gain = found.improvement
    of_all = replace(gain, amount=gain.amount / share, low=gain.low / share, high=gain.high / share)
    return found if share == 1 else replace(found, improvement=of_all)
