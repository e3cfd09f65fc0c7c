"""Budgets for tests, reserved from and charged as workers do it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import update

from tests import rows, steps
from turnmill.domain.budgets import OnExceeded, Period, Scope
from turnmill.domain.states import TurnState
from turnmill.new_ids import new_id
from turnmill.store.budget_records import Ask, Budget, Holder, NewBudget, Reserved
from turnmill.store.database import Database
from turnmill.store.line.reserving import reserve
from turnmill.store.nouns import budgets, events
from turnmill.store.records import Claim
from turnmill.store.schema.budget_tables import budgets as budget_rows

ALL = Holder(Scope.ALL)
ADA = Holder(Scope.USER, "ada")
CENT = Decimal("0.01")


def bound(
    store: Database,
    limit: str | Decimal,
    holder: Holder = ADA,
    *,
    period: Period = Period.MONTH,
    wait: bool = False,
    warn_at: tuple[float, ...] = (),
    timezone: str = "UTC",
) -> Budget:
    new = NewBudget(
        holder=holder,
        period=period,
        timezone=timezone,
        limit_usd=Decimal(limit),
        on_exceeded=OnExceeded.WAIT if wait else OnExceeded.FAIL,
        warn_at=warn_at,
    )
    with store.begin() as conn:
        return budgets.set_budget(conn, new, budget_id=new_id())


def budget(store: Database, holder: Holder = ADA, period: Period | None = None) -> Budget:
    with store.begin() as conn:
        return budgets.get(conn, holder, period)


def sums(store: Database, holder: Holder = ADA) -> tuple[Decimal | int, ...]:
    """Return what is spent, of that estimated, and reserved."""
    found = budget(store, holder)
    return found.spent_usd, found.estimated_usd, found.reserved_usd


def one(store: Database, **options: Any) -> Claim:
    session = rows.start(store, **options)
    return steps.take_one(store, steps.send(store, session).turn_id)


def ask(store: Database, claim: Claim, amount: str | Decimal | None, *tags: str) -> Reserved:
    (found,) = ask_all(store, [(claim, amount)], *tags)
    return found


def ask_all(
    store: Database, wanted: Sequence[tuple[Claim, str | Decimal | None]], *tags: str
) -> list[Reserved]:
    asks = [
        Ask(
            turn_id=claim.turn_id,
            fence=claim.fence,
            amount_usd=None if amount is None else Decimal(amount),
        )
        for claim, amount in wanted
    ]
    with store.single() as conn:
        return reserve(conn, asks, tags=tags)


def end(
    store: Database, claim: Claim, state: TurnState = TurnState.SUCCEEDED, **options: Any
) -> None:
    steps.end(store, claim, state, budgeted=True, **options)


def lose(store: Database, claim: Claim) -> None:
    steps.lose(store, claim.turn_id)


def over(store: Database) -> None:
    """Let the periods of all budgets have ended a moment ago."""
    now = datetime.now(UTC)
    with store.begin() as conn:
        conn.execute(
            update(budget_rows).values(
                starts_at=now - timedelta(days=1), ends_at=now - timedelta(seconds=1)
            )
        )


def put_off(store: Database, claim: Claim, delay: timedelta) -> None:
    steps.end(store, claim, TurnState.QUEUED, outcome="not_now", waits_for="budget", delay=delay)


def let_go(store: Database) -> int:
    with store.begin() as conn:
        return budgets.let_go(conn).turns


def late(store: Database) -> None:
    """Let budgets have been changed a while ago."""
    moment = datetime.now(UTC) - timedelta(seconds=1)
    with store.begin() as conn:
        conn.execute(update(budget_rows).values(wake_until=moment))


def told(store: Database) -> list[tuple[str, Any]]:
    with store.begin() as conn:
        while budgets.tell(conn):
            pass
    with store.begin() as conn:
        page = events.page(conn, None, share=events.Share(kinds=["budget.threshold"]), limit=100)
    return [(one.kind, one.share) for one in page.events if one.kind != "gap"]
