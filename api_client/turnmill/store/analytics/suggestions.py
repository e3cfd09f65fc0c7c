"""Everything that rules find in a window: figures are read, and rules look at them."""

from collections.abc import Iterator

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
from turnmill.store.analytics import evidence, tried_models
from turnmill.store.analytics.ended_turns import Scope


def suggest(conn: Connection, scope: Scope) -> Suggestion:
    """Return what might be changed, about a session, a user's sessions, or all."""
    return suggestion_of(list(findings(conn, scope)))


def findings(conn: Connection, scope: Scope) -> Iterator[Finding]:
    """Yield what rules find. What workers and targets do is everybody's, and looked at there."""
    everybody = Scope(window=scope.window)
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
    yield from rounds.tool_loops(evidence.tool_uses(conn, scope))
    yield from rounds.sent_again(evidence.patience(conn, scope))
    if scope.is_whole:
        hours = evidence.call_hours(conn, scope)
        yield from failures.retry_storms(hours)
        yield from failures.dead_targets(hours)
        yield from waiting.could_wait(evidence.hasty_works(conn, scope))
        yield from waiting.few_workers(evidence.queue_hours(conn, scope))
