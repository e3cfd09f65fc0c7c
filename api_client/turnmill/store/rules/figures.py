"""What turns have come to, in figures: line by line, and what is left of those that are gone."""

from collections.abc import Collection
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Numeric,
    Select,
    and_,
    case,
    func,
    literal,
    null,
    select,
    union_all,
)

from turnmill.domain.ids import SessionId
from turnmill.domain.states import FINAL, TurnState
from turnmill.store.schema.erasure_tables import usage_gone
from turnmill.store.schema.tables import attempts, sessions, turns
from turnmill.store.types import db_day, insert_into

#: Outcomes of a claim that came to no request.
#: Nothing was sent, or its step was finished and the next one is no second try.
_NO_TRY = ("released", "not_now", "called")

#: What columns of the figures hold.
_MOST = 2**63 - 1
_MOST_DOLLARS = Decimal(10) ** 10 - 1

#: What adds up from day to day.
FIGURES = (
    "turns",
    "succeeded",
    "failed",
    "dead",
    "cancelled",
    "expired",
    "attempts",
    "retries",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cost_usd",
    "unpriced_attempts",
)
_OF_LINES = ("day", "provider", "model")


def is_scripted() -> ColumnElement[bool]:
    """Return which turns have a reply that nobody was asked for: no worker ever claimed them."""
    return and_(turns.c.state == TurnState.SUCCEEDED.value, turns.c.claims == 0)


def lines_of(*which: ColumnElement[bool]) -> Select[Any]:
    """Select what these turns have come to, as far as they have ended.

    A turn is counted where it was answered, else with its session's own; what an attempt took is,
    where that attempt was made.
    """
    ended = _ended(which)
    made = _made_in(ended)
    lines = union_all(_of_attempts(made), _of_turns(ended, made)).subquery("lines")
    return select(lines)


def lines_gone(*which: ColumnElement[bool]) -> Select[Any]:
    """Select what turns had come to whose rows are gone."""
    return select(*(usage_gone.c[name] for name in (*_OF_LINES, *FIGURES))).where(*which)


def added_up(*lines: Select[Any]) -> Select[Any]:
    """Select one line for each day, provider and model."""
    all_lines = union_all(*lines).subquery("all_lines").c
    keys = [all_lines[name] for name in _OF_LINES]
    return select(*keys, *(_bounded_sum(all_lines[name]) for name in FIGURES)).group_by(*keys)


def keep_figures(conn: Connection, session_ids: Collection[SessionId]) -> None:
    """Write down what the turns of these sessions have come to: their rows are being removed.

    In the same transaction, so that whoever adds up finds each of them once.
    """
    found = added_up(lines_of(turns.c.session_id.in_(list(session_ids))))
    rows = conn.execute(found.order_by(*_OF_LINES)).all()  # who waits for whom has an order
    if not rows:
        return
    statement = insert_into(conn, usage_gone)
    sums = {name: _sum(usage_gone.c[name], statement.excluded[name]) for name in FIGURES}
    conn.execute(
        statement.on_conflict_do_update(index_elements=list(_OF_LINES), set_=sums),
        [dict(zip((*_OF_LINES, *FIGURES), row, strict=True)) for row in rows],
    )


def _ended(which: Collection[ColumnElement[bool]]) -> Any:
    columns = (turns.c.id, turns.c.state, sessions.c.provider, sessions.c.model)
    return (
        select(*columns, db_day(turns.c.finished_at).label("day"))
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(*which, turns.c.state.in_(FINAL), ~is_scripted())
        .cte("ended")
    )


def _made_in(ended: Any) -> Any:
    """Select the attempts of these turns, and who was asked; an older one does not say who."""
    sent = and_(attempts.c.kind == "send", attempts.c.outcome.not_in(_NO_TRY))
    sent_so_far = func.sum(_one_if(sent)).over(
        partition_by=attempts.c.turn_id, order_by=attempts.c.fence, rows=(None, 0)
    )
    back = func.row_number().over(partition_by=attempts.c.turn_id, order_by=attempts.c.fence.desc())
    return (
        select(
            attempts,
            ended.c.day,
            func.coalesce(attempts.c.provider, ended.c.provider).label("asked"),
            func.coalesce(attempts.c.asked_model, ended.c.model).label("asked_for"),
            and_(sent, sent_so_far > 1).label("is_retry"),
            back.label("back"),
        )
        .join(ended, ended.c.id == attempts.c.turn_id)
        .cte("made")
    )


def _of_attempts(made: Any) -> Select[Any]:
    """Select what each attempt has used."""
    # One that used nothing has no price to be known; of an unknown number it is not known.
    unpriced = made.c.cost_usd.is_(None) & (
        func.coalesce(made.c.input_tokens + made.c.output_tokens, 1) > 0
    )
    said = {
        "attempts": literal(1),
        "retries": _one_if(made.c.is_retry),
        **{name: made.c[name] for name in ("input_tokens", "output_tokens", "cached_tokens")},
        "cost_usd": made.c.cost_usd,
        "unpriced_attempts": _one_if(unpriced),
    }
    figures = [said.get(name, literal(0)).label(name) for name in FIGURES]
    asked = (made.c.asked.label("provider"), made.c.asked_for.label("model"))
    return select(made.c.day, *asked, *figures)


def _of_turns(ended: Any, made: Any) -> Select[Any]:
    """Select what each turn has come to, and where it was answered."""
    answered = ended.c.state == TurnState.SUCCEEDED
    last = and_(made.c.turn_id == ended.c.id, made.c.back == 1, answered)
    states = (
        TurnState.SUCCEEDED,
        TurnState.FAILED,
        TurnState.DEAD,
        TurnState.CANCELLED,
        TurnState.EXPIRED,
    )
    said: dict[str, Any] = {"turns": literal(1), "cost_usd": null()}
    said |= {state.value: _one_if(ended.c.state == state) for state in states}
    figures = [said.get(name, literal(0)).label(name) for name in FIGURES]
    return select(
        ended.c.day,
        func.coalesce(made.c.asked, ended.c.provider),
        func.coalesce(made.c.asked_for, ended.c.model),
        *figures,
    ).join_from(ended, made, last, isouter=True)


def _one_if(condition: Any) -> Any:
    return case((condition, 1), else_=0)


def _bounded_sum(column: Any) -> Any:
    """Return the sum as far as the table can hold it: one absurd row must not stop the figures."""
    total, most = func.coalesce(func.sum(column), 0), _most(column.name)
    return case((total > most, most), else_=total).label(column.name)


def _sum(kept: Any, more: Any) -> Any:
    most = _most(kept.name)
    return case((kept > most - more, most), else_=kept + more)


def _most(name: str) -> Any:
    if name == "cost_usd":
        return literal(_MOST_DOLLARS, Numeric(20, 10))
    return literal(_MOST, BigInteger)
