"""Budgets for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from turnmill.domain.budgets import Scope
from turnmill.show.as_typed import as_typed
from turnmill.show.tables import fields, print_json, print_table
from turnmill.show.terminal import say, tell

if TYPE_CHECKING:
    from decimal import Decimal

    from turnmill.store.budget_records import Budget

_COLUMNS = (
    *("of", "period", "limit", "spent", "reserved", "left", "ends", "beyond it", "time zone"),
    "estimated",
)
_NUMBERS = ("limit", "spent", "reserved", "left", "estimated")
_SPARE = ("reserved", "ends", "time zone", "estimated")
_FIELDS = (
    *("id", "scope", "session_id", "user_id", "tag", "period", "timezone", "limit_usd"),
    *("on_exceeded", "warn_at", "spent_usd", "reserved_usd", "estimated_usd", "left_usd"),
    *("period_start", "period_end", "created_at", "updated_at"),
)


def print_budgets(budgets: Sequence[Budget], *, as_json: bool) -> None:
    """Print them as a table, or one document a line."""
    if as_json:
        for one in budgets:
            print_json(document(one))
    elif budgets:
        print_table(_COLUMNS, map(_row, budgets), right=_NUMBERS, spare=_SPARE, cut=True)
    else:
        say(as_typed("no budget bounds what turns cost: turnmill budget set --limit-usd 100"))


def print_budget(budget: Budget, *, as_json: bool) -> None:
    """Print one."""
    print_budgets([budget], as_json=as_json)


def print_removed(*, as_json: bool) -> None:
    """Say that one is gone."""
    if as_json:
        print_json({"removed": 1})
    else:
        tell("removed: it bounds nothing any more")


def document(budget: Budget) -> dict[str, Any]:
    """Return what programs read."""
    return dict(fields(budget, *_FIELDS))


def _row(one: Budget) -> tuple[object, ...]:
    return (
        _whose(one),
        one.period,
        money(one.limit_usd),
        money(one.spent_usd),
        money(one.reserved_usd),
        money(one.left_usd),
        one.period_end,
        one.on_exceeded,
        one.timezone,
        money(one.estimated_usd),
    )


def _whose(one: Budget) -> str:
    match one.scope:
        case Scope.SESSION:
            return f"session {one.session_id}"
        case Scope.USER:
            return f"user {one.user_id}"
        case Scope.TAG if one.tag is not None:
            return f"tag {one.tag[0]}={one.tag[1]}"
        case _:
            return "all"


def money(amount: Decimal) -> str:
    """Return US dollars: cents, and as much below them as there is."""
    whole, _, rest = f"{amount:,.10f}".rstrip("0").partition(".")
    return f"${whole}.{rest.ljust(2, '0')}"
