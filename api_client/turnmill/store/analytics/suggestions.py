"""Everything that rules find in a window: figures are read, and rules look at them."""

from collections.abc import Iterator
from dataclasses import replace

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
from turnmill.store.analytics import evidence, evidence_of_rounds, tried_models
from turnmill.store.analytics.drawn import Drawn
from turnmill.store.analytics.ended_turns import Scope


def suggest(conn: Connection, scope: Scope, *, drawn: Drawn | None = None) -> Suggestion:
    """Return what might be changed, about a session, a user's sessions, or all.

    For everybody, what is `drawn` may stand; what a change may bring is said of all.
    """
    found = suggestion_of(list(findings(conn, scope, drawn)))
    if drawn is None or not scope.is_whole:
        return found
    return replace(found, looked_at=drawn.sessions.share)


def findings(conn: Connection, scope: Scope, drawn: Drawn | None = None) -> Iterator[Finding]:
    """Yield what rules find. What workers and targets do is everybody's, and looked at there."""
    of_all = Scope(window=scope.window) if drawn is None else drawn.sessions
    looked_at = of_all if scope.is_whole else scope
    for one in _of_conversations(conn, looked_at, of_all):
        yield _for_all(one, looked_at.share)
    if scope.is_whole:
        calls = evidence.call_hours(conn, scope if drawn is None else drawn.calls)
        yield from failures.retry_storms(calls)
        yield from failures.dead_targets(calls)
        queues = evidence.queue_hours(conn, scope if drawn is None else drawn.queues)
        yield from waiting.few_workers(queues)


def _of_conversations(conn: Connection, scope: Scope, everybody: Scope) -> Iterator[Finding]:
    uses = evidence.model_uses(conn, scope)
    tasks = sorted({one.task for one in uses if one.task})
    others = None if scope.is_whole else evidence.model_uses(conn, everybody, tasks=tasks)
    prices = evidence.prices_of([*uses, *(others or ())])
    yield from models.cheaper_models(uses, others)
    yield from trying.tried(tried_models.read(conn, scope.window), uses)
    of_lengths = evidence.length_uses(conn, scope)
    yield from lengths.answers_cut(of_lengths)
    yield from lengths.limits_too_high(of_lengths)
    yield from histories.unused_caches(evidence.cache_uses(conn, scope, prices))
    yield from histories.growing_histories(evidence.growth_uses(conn, scope, prices))
    yield from rounds.tool_loops(evidence_of_rounds.tool_uses(conn, scope))
    yield from rounds.sent_again(evidence_of_rounds.patience(conn, scope))
    if scope.is_whole:
        yield from waiting.could_wait(evidence.hasty_works(conn, scope))


def _for_all(found: Finding, share: float) -> Finding:
    """Return it with what a change may bring to all, of whom a share was looked at."""
    gain = found.improvement
    of_all = replace(gain, amount=gain.amount / share, low=gain.low / share, high=gain.high / share)
    return found if share == 1 else replace(found, improvement=of_all)
