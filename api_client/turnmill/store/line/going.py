"""What is written down of money as the rows of sessions go: what was spent, and what may yet be."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Text,
    and_,
    case,
    cast,
    func,
    insert,
    literal,
    or_,
    select,
)

from turnmill.domain.batches import UNREAD, ShardState
from turnmill.domain.budgets import Period, Scope, tag_said
from turnmill.domain.ids import SessionId
from turnmill.domain.states import UNFINISHED
from turnmill.new_ids import new_id
from turnmill.store.capabilities import Capability, capabilities_of
from turnmill.store.line.copies import is_of_trial
from turnmill.store.rules.buckets import slot_of
from turnmill.store.rules.figure_lines import Key, joined, line_of
from turnmill.store.rules.figures import keep_lines, kept_tag, mark_now, tag_of
from turnmill.store.rules.spending import keep_spent, of_provider, spent_by_day
from turnmill.store.rules.used import ANSWERED, has_used
from turnmill.store.schema.batch_tables import batch_shards
from turnmill.store.schema.budget_tables import budgets
from turnmill.store.schema.kept_tables import kept_refs
from turnmill.store.schema.rollup_tables import calls_gone
from turnmill.store.schema.tables import attempts, sessions, turns
from turnmill.store.types import db_asof_after, db_now
from turnmill.store.vaults import plain

#: Whoever was lost, and has slept for longer, comes back with nothing any more.
_LOST_FOR = timedelta(days=1)
_ASKING = ("check", "resume")
_OVER = (ShardState.TAKEN, ShardState.DONE)


class Under(StrEnum):
    """What is under way, and may come back to nobody."""

    CALL = "call"  #: of a worker
    WORK = "work"  #: in the background, at a vendor
    LINE = "line"  #: of a shard


def keep_money(conn: Connection, session_ids: Collection[SessionId]) -> None:
    """Write down what these sessions have spent, and what of theirs is under way.

    In the transaction that removes their rows, which holds their locks; `figures` sees to what has
    ended.
    """
    mine = turns.c.session_id.in_(list(session_ids))
    keep_spent(conn, [dict(row) for row in conn.execute(spent_by_day(mine)).mappings()])
    _keep_unfinished(conn, mine)
    found = [*_calls(conn, mine), *_work(conn, session_ids)]
    if Capability.SHARED in capabilities_of(conn):
        found += _lines(conn, mine)
    if found:
        rows = [{"id": new_id(), "shard_id": None, "budget_ids": [], **row} for row in found]
        conn.execute(insert(calls_gone), rows)


def _keep_unfinished(conn: Connection, mine: ColumnElement[bool]) -> None:
    """Keep what turns have used that end by this alone: figures know those that have ended."""
    a = attempts.c
    tokens = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens")
    unpriced = a.cost_usd.is_(None) & has_used(a)
    wasted = a.outcome.is_(None) | a.outcome.not_in(ANSWERED)
    keys = {
        "provider": of_provider,
        "model": func.coalesce(a.asked_model, sessions.c.model),
        "tier": func.coalesce(a.service_tier, ""),
        "lane": turns.c.lane,
        "tag": tag_of(kept_tag(conn)),
    }
    used = or_(a.ended_at.is_not(None), a.cost_usd.is_not(None), a.input_tokens > 0)
    rows = conn.execute(
        select(
            *(value.label(name) for name, value in keys.items()),
            literal(1).label("attempts"),
            case((a.outcome == "called", 1), else_=0).label("steps"),
            *(func.coalesce(a[name], 0).label(name) for name in tokens),
            func.coalesce(a.cost_usd, 0).label("cost_usd"),
            case((wasted, func.coalesce(a.cost_usd, 0)), else_=0).label("waste_usd"),
            case((unpriced, 1), else_=0).label("unpriced_attempts"),
        )
        .join(turns, turns.c.id == a.turn_id)
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(mine, turns.c.state.in_(UNFINISHED), used)
    )
    keep_of_now(conn, [dict(row) for row in rows.mappings()])


def keep_of_now(conn: Connection, rows: Collection[Mapping[str, Any]]) -> None:
    """Count in the quarter of an hour that it is what came of calls whose turns are gone."""
    if not rows:
        return
    slot = conn.scalars(select(slot_of(db_now()))).one()
    names = [name for name in Key._fields if name != "slot"]
    lines = [line_of(Key(slot, *(row[name] for name in names)), row) for row in rows]
    keep_lines(conn, joined(lines))
    mark_now(conn, slot)


def _calls(conn: Connection, mine: ColumnElement[bool]) -> list[dict[str, Any]]:
    """Return the calls that workers have in hand, or may come back with though they were lost."""
    a = attempts.c
    lately = a.ended_at > db_asof_after(-_LOST_FOR.total_seconds())
    lost = and_(a.outcome == "lost", lately, a.input_tokens == 0, a.kind.not_in(_ASKING))
    # Whoever asks about work finds out what that has used, and nothing of its own.
    kind = case((a.kind.in_(_ASKING), Under.WORK.value), else_=Under.CALL.value)
    model = func.coalesce(a.asked_model, sessions.c.model)
    return _found(conn, kind, a.fence, of_provider, model, a.turn_id, mine, or_(_open(), lost))


def _open() -> ColumnElement[bool]:
    return attempts.c.outcome.is_(None)


def _found(
    conn: Connection,
    kind: ColumnElement[str],
    fence: ColumnElement[int],
    provider: ColumnElement[str],
    model: ColumnElement[str],
    turn_id: ColumnElement[UUID],
    *which: ColumnElement[bool],
) -> list[dict[str, Any]]:
    rows = conn.execute(
        select(
            kind.label("kind"),
            turn_id.label("turn_id"),
            fence.label("fence"),
            provider.label("provider"),
            model.label("model"),
            turns.c.lane,
            turns.c.batch_id,
            tag_of(kept_tag(conn)).label("tag"),
        )
        .join(turns, turns.c.id == turn_id)
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(*which)
    )
    return [dict(row) for row in rows.mappings()]


def _work(conn: Connection, session_ids: Collection[SessionId]) -> list[dict[str, Any]]:
    """Return the work that vendors are asked to stop: they say how much it has used by then."""
    k = kept_refs.c
    last = (
        select(attempts.c.asked_model)
        .where(attempts.c.turn_id == k.turn_id)
        .order_by(attempts.c.fence.desc())
        .limit(1)
        .scalar_subquery()
    )
    model = func.coalesce(last, sessions.c.model)
    work = literal(Under.WORK.value)
    of_these = k.session_id.in_(list(session_ids))
    return _found(conn, work, literal(0), k.provider, model, k.turn_id, of_these, k.running)


def _lines(conn: Connection, mine: ColumnElement[bool]) -> list[dict[str, Any]]:
    """Return what stands in a vendor's batch: it may be answered there whatever becomes of it."""
    s = batch_shards.c
    rows = conn.execute(
        select(
            literal(Under.LINE.value).label("kind"),
            turns.c.id.label("turn_id"),
            # A claim of its own, which no other one has: its charge stands under it.
            (sessions.c.fence + 1).label("fence"),
            s.id.label("shard_id"),
            *(s.provider, s.model, turns.c.lane, turns.c.batch_id),
            tag_of(kept_tag(conn)).label("tag"),
            *(sessions.c.user_id, turns.c.session_id),
            *(turns.c.metadata, sessions.c.metadata.label("of_session")),
            is_of_trial(turns.c.batch_id).label("of_trial"),
        )
        .join(sessions, sessions.c.id == turns.c.session_id)
        .join(
            batch_shards,
            and_(s.batch_id == turns.c.batch_id, cast(s.id, Text) == turns.c.native_ref),
        )
        .where(mine, turns.c.native_ref != "", or_(s.state.not_in(_OVER), s.status == UNREAD))
    )
    return [_line(conn, dict(row)) for row in rows.mappings().all()]


def _line(conn: Connection, row: dict[str, Any]) -> dict[str, Any]:
    of_session, of_turn = plain(row.pop("of_session")), plain(row.pop("metadata"))
    user_id, session_id = row.pop("user_id"), str(row.pop("session_id"))
    names = {Scope.SESSION: session_id, Scope.BATCH: str(row["batch_id"])}
    if not row.pop("of_trial"):
        names[Scope.USER] = user_id  # who has not asked for a trial
    b = budgets.c
    tags = [
        and_(b.scope == Scope.TAG, b.name == name, b.value == value)
        for name in {**of_session, **of_turn}
        if (value := tag_said(name, of_turn=of_turn, of_session=of_session)) is not None
    ]
    own = [and_(b.scope == scope, b.name == name) for scope, name in names.items()]
    holds = or_(b.scope == Scope.ALL, *own, *tags)
    found = conn.scalars(select(b.id).where(holds, b.period != Period.TURN))
    return {**row, "budget_ids": [str(one) for one in found]}


def figures_of(row: Mapping[str, Any], *, tier: str, used: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a call that came back late adds to the figures."""
    cost = used["cost_usd"]
    return {
        **{name: row[name] for name in ("provider", "model", "lane", "tag")},
        "tier": tier,
        "attempts": 1,
        **{name: value or 0 for name, value in used.items()},
        "waste_usd": cost or Decimal(0),
        "unpriced_attempts": int(cost is None),
    }
