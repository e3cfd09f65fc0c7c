"""Stopping a batch, letting it go on, and what it may cost until when."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from turnmill.domain.arguments import from_now, moment
from turnmill.domain.errors import InvalidInput
from turnmill.domain.ids import BatchId
from turnmill.domain.plain import span_of
from turnmill.new_ids import new_id
from turnmill.store.nouns import batch_moves
from turnmill.verbs import intake
from turnmill.verbs.verb import Connection, Deed, Effect, Verb, transaction


class Limits(NamedTuple):
    """What a batch may cost at the most, and until when it may run; None: as it is."""

    max_cost_usd: Decimal | None
    deadline: datetime | None


def limits_given(max_cost_usd: object, deadline: object) -> Limits:
    """Return both, checked; a deadline may be told as from now on. Raises InvalidInput."""
    if isinstance(deadline, timedelta):
        deadline = from_now(span_of(deadline), name="deadline")
    found = moment(deadline, name="deadline")
    if found is not None and found <= datetime.now(UTC):
        raise InvalidInput("deadline has passed", hint="deadline=timedelta(hours=12)")
    limit = None if max_cost_usd is None else intake.max_cost(max_cost_usd)
    return Limits(limit, found)


def bound(conn: Connection, batch_id: BatchId, limits: Limits) -> None:
    """Write these limits down, in the caller's transaction."""
    batch_moves.bound(conn, batch_id, **limits._asdict(), budget_id=new_id())


def pause(batch_id: BatchId) -> Verb[bool]:
    """Let no further turn of it begin; False where it is paused already."""

    def on(conn: Connection) -> Effect[bool]:
        done = batch_moves.pause(conn, batch_id)
        return Effect(done, changed=done)

    return transaction(on, does=Deed("paused", objects={"batch": batch_id}))


def resume(batch_id: BatchId, *, max_cost_usd: object, deadline: object) -> Verb[bool]:
    """Let it go on; False where it runs, and is bounded as it was."""
    limits = limits_given(max_cost_usd, deadline)

    def on(conn: Connection) -> Effect[bool]:
        done = batch_moves.resume(conn, batch_id) or limits != Limits(None, None)
        bound(conn, batch_id, limits)
        return Effect(done, changed=done)

    return transaction(on, does=_resumed(batch_id, limits))


def _resumed(batch_id: BatchId, limits: Limits) -> Deed:
    """Return what it is for the audit log: with another limit, a change of a budget."""
    of = {"batch": batch_id}
    if limits.max_cost_usd is None:
        return Deed("resumed", objects=of)
    limit = f"{limits.max_cost_usd:f}"
    figures: dict[str, str | bool] = {
        "scope": "batch",
        "period": "total",
        "limit_usd": limit,
        "resumed": True,
    }
    return Deed("budget.set", objects=of, figures=figures, of_anybody=True)


def mark_running_again(batch_id: BatchId) -> Verb[bool]:
    """Let it come to its end once more; False where none of its turns has failed."""

    def on(conn: Connection) -> Effect[bool]:
        done = batch_moves.mark_running_again(conn, batch_id)
        return Effect(done, changed=done)

    return transaction(on, does=Deed("batch.retried", objects={"batch": batch_id}))


def hold_page(batch_id: BatchId, _after_line: int) -> Verb[batch_moves.Page | None]:
    """Hold a page of its turns, or let a page of them go; None: nothing is left."""

    def on(conn: Connection) -> Effect[batch_moves.Page | None]:
        page = batch_moves.hold_page(conn, batch_id)
        return Effect(page, () if page is None else page.heads)

    return transaction(on)
