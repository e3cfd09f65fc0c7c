"""How conversations go wrong: turns of each kind in a window, told by their rows in one look."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, literal, select

from turnmill.domain.analytics.behaving import (
    AGAIN_SECONDS,
    LOOP_CALLS,
    RETRIED_ATTEMPTS,
    SILENT_SECONDS,
    Behaviour,
)
from turnmill.domain.ids import SessionId
from turnmill.domain.replying import FinishReason
from turnmill.domain.states import Lane, TurnState
from turnmill.store.analytics.ended_turns import Scope, ended, joined
from turnmill.store.schema.step_tables import tool_calls
from turnmill.store.schema.tables import sessions, turns
from turnmill.store.types import seconds_between


@dataclass(frozen=True, slots=True, kw_only=True)
class BehaviourCluster:
    """Turns that have something in common, without a look at what was said."""

    behaviour: Behaviour
    turns: int
    sessions: int
    users: int
    share: float  #: of all turns that ended in the window, from 0 to 1
    cost_usd: Decimal  #: of these turns, as far as it is known
    examples: tuple[SessionId, ...]  #: up to five sessions, those with the most such turns first
    #: Which share of sessions was looked at: of very many, some are drawn. Turns, sessions and cost
    #: are then those of all, about; users those that were seen.
    looked_at: float = 1.0


def clusters(conn: Connection, scope: Scope, *, examples: int = 5) -> list[BehaviourCluster]:
    """Return what turns of each kind came to, most turns first; nothing of kinds without any."""
    marked = _marked(scope)
    kinds = {kind: marked.c[kind.value] for kind in Behaviour}
    query = select(
        func.count().label("turns"),
        *(one for kind, is_so in kinds.items() for one in _figures(kind, is_so, marked.c)),
    )
    row = conn.execute(query).one()._mapping
    found = [
        BehaviourCluster(
            behaviour=kind,
            turns=round(int(row[f"{kind}_turns"]) / scope.share),
            sessions=round(row[f"{kind}_sessions"] / scope.share),
            users=row[f"{kind}_users"],
            share=int(row[f"{kind}_turns"]) / row["turns"],
            cost_usd=_of_all(row[f"{kind}_usd"], scope.share),
            examples=tuple(_examples(conn, marked, kinds[kind], limit=examples)),
            looked_at=scope.share,
        )
        for kind in Behaviour
        if row[f"{kind}_turns"]
    ]
    return sorted(found, key=lambda one: (-one.turns, one.behaviour))


def _of_all(usd: Any, share: float) -> Decimal:
    cost = Decimal(usd or 0)
    return cost if share == 1 else round(cost / Decimal(str(share)), 10)


def _figures(kind: Behaviour, is_so: ColumnElement[int], row: Any) -> Sequence[Any]:
    def of(value: Any) -> Any:
        return case((is_so == 1, value))

    return (
        func.coalesce(func.sum(is_so), 0).label(f"{kind}_turns"),
        func.count(of(row.session_id).distinct()).label(f"{kind}_sessions"),
        func.count(of(row.user_id).distinct()).label(f"{kind}_users"),
        func.sum(of(row.cost_usd)).label(f"{kind}_usd"),
    )


def _examples(
    conn: Connection, marked: Any, is_so: ColumnElement[int], *, limit: int
) -> list[SessionId]:
    if not limit:
        return []
    count = func.count()
    query = (
        select(marked.c.session_id)
        .where(is_so == 1)
        .group_by(marked.c.session_id)
        .order_by(count.desc(), marked.c.session_id)
        .limit(limit)
    )
    return [SessionId(one) for one in conn.scalars(query)]


def _marked(scope: Scope) -> Any:
    """Select the turns of the scope with 1 or 0 for each kind."""
    line: dict[str, Any] = {"partition_by": turns.c.session_id, "order_by": turns.c.seq}
    before = {
        name: func.lag(turns.c[name], type_=turns.c[name].type).over(**line)
        for name in ("seq", "created_at", "finished_at")
    }
    kinds = {
        Behaviour.TOOL_LOOP: _loops(scope),
        Behaviour.CUT_BY_LENGTH: turns.c.finish_reason == FinishReason.LENGTH,
        Behaviour.RETRIED: turns.c.attempt >= RETRIED_ATTEMPTS,
        Behaviour.LONG_SILENCE: and_(
            turns.c.lane == Lane.INTERACTIVE,
            turns.c.state != TurnState.CANCELLED,
            seconds_between(turns.c.finished_at, turns.c.created_at) >= SILENT_SECONDS,
        ),
        Behaviour.SENT_AGAIN: and_(
            turns.c.lane == Lane.INTERACTIVE,
            turns.c.batch_id.is_(None),
            turns.c.retry_of.is_(None),
            before["seq"] == turns.c.seq - 1,
            turns.c.created_at < before["finished_at"],
            seconds_between(turns.c.created_at, before["created_at"]) <= AGAIN_SECONDS,
        ),
        Behaviour.FAILED: _failed(),
        Behaviour.GIVEN_UP: and_(_failed(), turns.c.seq == sessions.c.next_seq - 1),
    }
    columns = (turns.c.session_id, sessions.c.user_id, turns.c.cost_usd)
    marks = (case((is_so, 1), else_=0).label(kind.value) for kind, is_so in kinds.items())
    return joined(*columns, *marks).where(ended(scope)).cte("marked")


def _failed() -> ColumnElement[bool]:
    return turns.c.state.in_([TurnState.FAILED, TurnState.DEAD])


def _loops(scope: Scope) -> ColumnElement[bool]:
    """Return which turns have called one tool again and again."""
    calls = (
        joined(tool_calls.c.turn_id)
        .join(tool_calls, tool_calls.c.turn_id == turns.c.id)
        .where(ended(scope))
        .group_by(tool_calls.c.turn_id, tool_calls.c.tool)
        .having(func.count(literal(1)) >= LOOP_CALLS)
    )
    return turns.c.id.in_(calls)
