"""What rules of rounds and patience go by: calls of tools, and what is sent before an answer."""

from sqlalchemy import Connection, and_, case, func, select

from turnmill.domain.analytics.suggesting.rounds import (
    LEAST_WITH_TOOL,
    LOOP_CALLS,
    Patience,
    ToolUse,
)
from turnmill.domain.states import Lane
from turnmill.store.analytics.ended_turns import (
    Scope,
    as_float,
    count_if,
    ended,
    followed,
    goes_on,
    joined,
    sum_if,
)
from turnmill.store.schema.step_tables import tool_calls
from turnmill.store.schema.tables import sessions, turns
from turnmill.store.types import seconds_between

#: Whoever writes so soon after his last message does not wait for an answer.
_IMPATIENT = 60


def tool_uses(conn: Connection, scope: Scope) -> list[ToolUse]:
    """Return how often turns call each tool."""
    calls = (
        joined(
            sessions.c.provider,
            sessions.c.model,
            tool_calls.c.tool,
            turns.c.id,
            func.count().label("n"),
            func.max(turns.c.step).label("steps"),
            func.max(as_float(func.coalesce(turns.c.cost_usd, 0))).label("usd"),
        )
        .join(tool_calls, tool_calls.c.turn_id == turns.c.id)
        .where(ended(scope))
        .group_by(sessions.c.provider, sessions.c.model, tool_calls.c.tool, turns.c.id)
        .subquery("calls")
        .c
    )
    loops = calls.n >= LOOP_CALLS
    key = (calls.provider, calls.model, calls.tool)
    query = (
        select(
            *key,
            func.count().label("turns"),
            count_if(loops).label("looping"),
            func.coalesce(func.sum(case((loops, calls.n), else_=0)), 0).label("calls"),
            sum_if(loops, calls.usd).label("looping_usd"),
            sum_if(~loops, calls.usd).label("other_usd"),
            func.coalesce(func.max(case((~loops, calls.steps))), 0).label("most_rounds"),
        )
        .group_by(*key)
        .having(func.count() >= LEAST_WITH_TOOL)
    )
    return [ToolUse(**{**row._mapping, "calls": int(row.calls)}) for row in conn.execute(query)]


def patience(conn: Connection, scope: Scope) -> list[Patience]:
    """Return how often users have written again before they had an answer."""
    row = followed(scope).c
    waited = seconds_between(row.created_at, row.created_at_before)
    again = and_(row.created_at < row.finished_at_before, waited <= _IMPATIENT)
    query = select(
        row.provider,
        row.model,
        func.count().label("turns"),
        count_if(again).label("again"),
        sum_if(again, waited).label("waited"),
    ).where(
        goes_on(row),
        row.lane == Lane.INTERACTIVE,
        row.lane_before == Lane.INTERACTIVE,
        row.batch_id.is_(None),
        row.retry_of.is_(None),
    )
    return [
        Patience(**one._mapping) for one in conn.execute(query.group_by(row.provider, row.model))
    ]
