"""How conversations go wrong: turns of each kind in a window, told by their rows in one look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, literal, or_, select

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
from turnmill.store.analytics.asking import Question, answer
from turnmill.store.analytics.ended_turns import Scope, Seen
from turnmill.store.schema.step_tables import tool_calls
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
    seen = Seen.of(scope)
    (found,) = answer(conn, counted(seen, scope.share))
    if not examples:
        return found
    marked = _marked(seen)
    return [
        replace(one, examples=tuple(_examples(conn, marked, one.behaviour, limit=examples)))
        for one in found
    ]


def counted(seen: Seen, share: float) -> Question[list[BehaviourCluster]]:
    """Ask the same; one line is the answer. These turns are such a share of all."""
    marked = _marked(seen)
    kinds = {kind: marked.c[kind.value] for kind in Behaviour}
    figures = (one for kind, is_so in kinds.items() for one in _figures(kind, is_so, marked.c))
    every = select(func.count()).select_from(seen.all).scalar_subquery()
    # Most turns are of no kind: what is counted apart is sorted, which is less work without them.
    query = select(every.label("turns"), *figures).where(or_(*(so == 1 for so in kinds.values())))
    return Question(query, lambda line: _clusters(line, share))


def _clusters(line: Mapping[str, Any], share: float) -> list[BehaviourCluster]:
    found = [
        BehaviourCluster(
            behaviour=kind,
            turns=round(int(line[f"{kind}_turns"]) / share),
            sessions=round(line[f"{kind}_sessions"] / share),
            users=line[f"{kind}_users"],
            share=int(line[f"{kind}_turns"]) / line["turns"],
            cost_usd=_of_all(line[f"{kind}_usd"], share),
            examples=(),
            looked_at=share,
        )
        for kind in Behaviour
        if line[f"{kind}_turns"]
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


def _examples(conn: Connection, marked: Any, kind: Behaviour, *, limit: int) -> list[SessionId]:
    count = func.count()
    query = (
        select(marked.c.session_id)
        .where(marked.c[kind.value] == 1)
        .group_by(marked.c.session_id)
        .order_by(count.desc(), marked.c.session_id)
        .limit(limit)
    )
    return [SessionId(one) for one in conn.scalars(query)]


def _marked(seen: Seen) -> Any:
    """Select the turns with 1 or 0 for each kind."""
    row = seen.all.c
    line: dict[str, Any] = {"partition_by": row.session_id, "order_by": row.seq}
    before = {
        name: func.lag(row[name], type_=row[name].type).over(**line)
        for name in ("seq", "created_at", "finished_at")
    }
    kinds = {
        Behaviour.TOOL_LOOP: _loops(seen),
        Behaviour.CUT_BY_LENGTH: row.finish_reason == FinishReason.LENGTH,
        Behaviour.RETRIED: row.attempt >= RETRIED_ATTEMPTS,
        Behaviour.LONG_SILENCE: and_(
            row.lane == Lane.INTERACTIVE,
            row.state != TurnState.CANCELLED,
            seconds_between(row.finished_at, row.created_at) >= SILENT_SECONDS,
        ),
        Behaviour.SENT_AGAIN: and_(
            row.lane == Lane.INTERACTIVE,
            row.batch_id.is_(None),
            row.retry_of.is_(None),
            before["seq"] == row.seq - 1,
            row.created_at < before["finished_at"],
            seconds_between(row.created_at, before["created_at"]) <= AGAIN_SECONDS,
        ),
        Behaviour.FAILED: _failed(row),
        Behaviour.GIVEN_UP: and_(_failed(row), row.seq == row.next_seq - 1),
    }
    marks = (case((is_so, 1), else_=0).label(kind.value) for kind, is_so in kinds.items())
    return select(row.session_id, row.user_id, row.cost_usd, *marks).cte("marked")


def _failed(row: Any) -> Any:
    return row.state.in_([TurnState.FAILED, TurnState.DEAD])


def _loops(seen: Seen) -> Any:
    """Return which turns have called one tool again and again."""
    calls = (
        select(tool_calls.c.turn_id)
        .join_from(seen.all, tool_calls, tool_calls.c.turn_id == seen.all.c.id)
        .group_by(tool_calls.c.turn_id, tool_calls.c.tool)
        .having(func.count(literal(1)) >= LOOP_CALLS)
    )
    return seen.all.c.id.in_(calls)
