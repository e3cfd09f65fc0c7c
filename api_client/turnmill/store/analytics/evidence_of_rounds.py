"""What rules of rounds and patience go by: calls of tools, and what is sent before an answer."""

from sqlalchemy import and_, case, func, select

from turnmill.domain.analytics.suggesting.rounds import (
    LOOP_CALLS,
    Patience,
    ToolUse,
)
from turnmill.domain.states import Lane
from turnmill.store.analytics.asking import Question
from turnmill.store.analytics.ended_turns import Seen, as_float, count_if, goes_on, sum_if
from turnmill.store.schema.step_tables import tool_calls
from turnmill.store.types import seconds_between

#: Whoever writes so soon after his last message does not wait for an answer.
_IMPATIENT = 60


def tool_uses(seen: Seen) -> Question[ToolUse]:
    """Ask how often turns call each tool."""
    row = seen.all.c
    calls = (
        select(
            row.provider,
            row.model,
            tool_calls.c.tool,
            row.id,
            func.count().label("n"),
            func.max(func.count()).over(partition_by=row.id).label("most"),
            func.max(row.step).label("steps"),
            func.max(as_float(func.coalesce(row.cost_usd, 0))).label("usd"),
        )
        .join_from(seen.all, tool_calls, tool_calls.c.turn_id == row.id)
        .group_by(row.provider, row.model, tool_calls.c.tool, row.id)
        .subquery("calls")
        .c
    )
    loops = calls.n >= LOOP_CALLS
    is_none = calls.most < LOOP_CALLS  # of any tool: of a loop, no round is one that is needed
    key = (calls.provider, calls.model, calls.tool)
    query = select(
        *key,
        func.count().label("turns"),
        count_if(loops).label("looping"),
        func.coalesce(func.sum(case((loops, calls.n), else_=0)), 0).label("calls"),
        sum_if(loops, calls.usd).label("looping_usd"),
        sum_if(~loops, calls.usd).label("other_usd"),
        func.coalesce(func.max(case((is_none, calls.steps))), 0).label("most_rounds"),
    ).group_by(*key)
    return Question(query, lambda line: ToolUse(**{**line, "calls": int(line["calls"])}))


def patience(seen: Seen) -> Question[Patience]:
    """Ask how often users have written again before they had an answer."""
    row = seen.followed.c
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
    return Question(query.group_by(row.provider, row.model), lambda line: Patience(**line))
