"""Budgets begin anew, are changed and removed, tell how far they are, and are waited for."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import func, select, update

from tests import rows, steps
from tests.budgeting import (
    ADA,
    ALL,
    CENT,
    ask,
    bound,
    budget,
    end,
    late,
    let_go,
    one,
    over,
    put_off,
    sums,
    told,
)
from turnmill.domain.budgets import Period, Scope
from turnmill.domain.errors import BudgetNotFound, InvalidInput
from turnmill.domain.ids import SessionId
from turnmill.domain.states import Lane, TurnState
from turnmill.new_ids import new_id
from turnmill.store.budget_records import Found, Holder, Reserved
from turnmill.store.database import Database
from turnmill.store.line.charges import charge_orphans
from turnmill.store.line.due import overdue
from turnmill.store.line.reserving import begin_periods
from turnmill.store.nouns import budgets, events, sessions
from turnmill.store.schema.budget_tables import charges
from turnmill.store.schema.tables import turns as turn_rows

pytestmark = [
    pytest.mark.usefixtures("sound"),
    # A file is written to as memory is.
    pytest.mark.parametrize("store", ["postgres", "memory"], indirect=True),
]


def test_a_budget_that_is_set_again_keeps_what_was_spent(store: Database) -> None:
    first = bound(store, "1")
    claim = one(store)
    ask(store, claim, "1")
    end(store, claim, cost_usd=Decimal("0.8"))
    second = bound(store, "0.5", wait=True, warn_at=(0.9,))
    assert (second.id, second.spent_usd, second.limit_usd) == (
        first.id,
        Decimal("0.8"),
        Decimal("0.5"),
    )
    assert second.left_usd == 0
    assert ask(store, one(store), CENT).found is Found.LATER


def test_a_period_that_is_over_begins_anew_and_late_calls_are_charged_to_the_one_before(
    store: Database,
) -> None:
    bound(store, "1", period=Period.DAY)
    late, done = one(store), one(store)
    ask(store, late, "0.4")
    ask(store, done, "0.6")
    end(store, done, cost_usd=Decimal("0.6"))
    over(store)
    assert sums(store) == (0, 0, 0)  # whoever looks sees it, before anybody has written it
    found = ask(store, one(store), "1")
    assert (found.found, len(found.over)) == (Found.AGAIN, 1)
    with store.begin() as conn:
        begin_periods(conn, found.over)
    assert ask(store, one(store), "1").found is Found.RESERVED
    end(store, late, cost_usd=Decimal("0.3"))
    assert sums(store) == (0, 0, 1)


def test_a_claim_that_asks_again_after_midnight_is_reserved_in_the_new_period(
    store: Database,
) -> None:
    bound(store, "1", period=Period.DAY)
    claim = one(store)
    ask(store, claim, "0.4")
    over(store)
    ended = ask(store, claim, "1").over
    with store.begin() as conn:
        begin_periods(conn, ended)
    assert ask(store, claim, "0.9").found is Found.RESERVED
    end(store, claim, cost_usd=Decimal("0.5"))
    assert sums(store) == (Decimal("0.5"), 0, 0)


def test_who_waits_for_the_period_is_told_until_when(store: Database) -> None:
    bound(store, "1", period=Period.DAY, wait=True)
    claim = one(store)
    ask(store, claim, "1")
    end(store, claim, cost_usd=Decimal(1))
    found = ask(store, one(store), CENT)
    ends = budget(store).period_end
    assert ends is not None and found.wait is not None
    assert abs(ends - datetime.now(UTC) - found.wait) < timedelta(seconds=5)
    bound(store, "1", ALL, period=Period.TOTAL, wait=True)
    claim = one(store, user_id="bob")
    ask(store, claim, "1")
    end(store, claim, cost_usd=Decimal(1))
    assert ask(store, one(store, user_id="bob"), CENT) == Reserved(Found.LATER, wait=None)


@pytest.mark.parametrize("holder", [ADA, ALL])
def test_raising_a_limit_lets_those_go_who_wait_for_it(store: Database, holder: Holder) -> None:
    bound(store, "0", holder, wait=True)
    let_go(store)
    mine, theirs = one(store), one(store, user_id="bob")
    for claim in (mine, theirs):
        put_off(store, claim, timedelta(hours=1))
    assert steps.take_due(store, Lane.INTERACTIVE) == []
    bound(store, "1", holder, wait=True)
    with store.begin() as conn:
        assert overdue(conn).budgets
    assert let_go(store) == (1 if holder is ADA else 2)
    taken = {one.turn_id for one in steps.take_due(store, Lane.INTERACTIVE)}
    assert mine.turn_id in taken
    assert (theirs.turn_id in taken) is (holder is ALL)
    late(store)
    assert let_go(store) == 0
    with store.begin() as conn:
        assert not overdue(conn).budgets


def test_who_waits_for_something_else_is_not_woken(store: Database) -> None:
    bound(store, "1")
    claim = one(store)
    steps.end(
        store,
        claim,
        TurnState.QUEUED,
        outcome="not_now",
        waits_for="quota",
        delay=timedelta(hours=1),
    )
    assert let_go(store) == 0


def test_a_budget_that_is_removed_bounds_nobody_and_lets_go(store: Database) -> None:
    bound(store, "0", wait=True)
    claim = one(store)
    put_off(store, claim, timedelta(hours=1))
    with store.begin() as conn:
        budgets.remove(conn, ADA, None)
        assert budgets.find(conn) == []
    with pytest.raises(BudgetNotFound), store.begin() as conn:
        budgets.remove(conn, ADA, None)
    assert let_go(store) == 1
    claim = steps.take_one(store, claim.turn_id)
    assert ask(store, claim, "5").found is Found.FREE
    late(store)
    assert let_go(store) == 0
    steps.end(store, claim)
    assert not one(store).budgeted


def test_a_call_that_runs_while_its_budget_is_removed_ends_as_ever(store: Database) -> None:
    bound(store, "1")
    claim = one(store)
    ask(store, claim, "0.4")
    with store.begin() as conn:
        budgets.remove(conn, ADA, None)
    end(store, claim, cost_usd=Decimal("0.1"))
    with store.begin() as conn:
        assert conn.scalar(select(func.sum(charges.c.reserved_usd))) == 0


def test_of_several_budgets_of_one_the_period_says_which(store: Database) -> None:
    bound(store, "1", period=Period.DAY)
    bound(store, "5", period=Period.MONTH)
    assert budget(store, ADA, Period.DAY).limit_usd == 1
    with pytest.raises(InvalidInput, match="day, month"):
        budget(store)
    with pytest.raises(BudgetNotFound):
        budget(store, ADA, Period.WEEK)
    with store.begin() as conn:
        listed = budgets.find(conn, limit=1)
        more = budgets.find(conn, after=listed[0].id)
    assert [one.limit_usd for one in (*listed, *more)] == [1, 5]


def test_each_share_of_a_limit_is_told_of_once_a_period(store: Database) -> None:
    made = bound(store, "1", warn_at=(0.5, 0.8, 0.95), period=Period.DAY)
    for cost, shares in (("0.4", []), ("0.45", [0.5, 0.8]), ("0.05", [0.5, 0.8])):
        late(store)
        let_go(store)  # that it was set is seen to, and what was told of
        claim = one(store)
        ask(store, claim, cost)
        end(store, claim, cost_usd=Decimal(cost))
        with store.begin() as conn:
            assert overdue(conn).budgets is (cost == "0.45")
        late(store)
        let_go(store)  # of what is to be told, nobody forgets
        assert [share for _, share in told(store)] == shares
    with store.begin() as conn:
        page = events.page(conn, None, share=events.Share(kinds=["budget.threshold"]), limit=100)
    assert {one.budget_id for one in page.events} == {made.id}
    over(store)
    with store.begin() as conn:
        begin_periods(conn, [made.id])
    claim = one(store)
    ask(store, claim, "0.6")
    end(store, claim, cost_usd=Decimal("0.6"))
    assert [share for _, share in told(store)] == [0.5, 0.8, 0.5]


def test_what_is_lost_with_its_session_is_still_charged(store: Database) -> None:
    bound(store, "1")
    session = rows.start(store)
    bound(store, "1", Holder(Scope.SESSION, str(session)))
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    ask(store, claim, "0.4")
    end(store, claim, cost_usd=Decimal("0.3"))
    with store.begin() as conn:
        sessions.remove(conn, session)
    assert sums(store) == (Decimal("0.3"), 0, 0)
    with store.begin() as conn:
        assert [one.scope for one in budgets.find(conn)] == [Scope.USER]


def test_charges_that_are_old_are_forgotten_and_the_sum_stays(store: Database) -> None:
    bound(store, "1")
    claims = [one(store) for _ in range(2)]
    for claim in claims:
        ask(store, claim, "0.4")
    end(store, claims[0], cost_usd=Decimal("0.3"))
    with store.begin() as conn:
        assert budgets.forget_charges(conn, older_than=timedelta(days=1)) == 0
        conn.execute(update(charges).values(at=datetime.now(UTC) - timedelta(days=2)))
        assert budgets.forget_charges(conn, older_than=timedelta(days=1)) == 1
    assert sums(store) == (Decimal("0.3"), 0, Decimal("0.4"))
    steps.assert_sound(store)
    end(store, claims[1], cost_usd=Decimal("0.2"))
    assert sums(store) == (Decimal("0.5"), 0, 0)


def test_what_is_reserved_for_nobody_any_more_is_found_by_upkeep(store: Database) -> None:
    bound(store, "1")
    claim = one(store)
    ask(store, claim, "0.4")
    steps.end(store, claim)  # by a version that knows no budgets
    with store.begin() as conn:
        assert charge_orphans(conn) == 0
        conn.execute(update(charges).values(at=datetime.now(UTC) - timedelta(hours=1)))
        assert charge_orphans(conn) == 1
    assert sums(store) == (Decimal("0.4"), Decimal("0.4"), 0)


def test_a_session_is_bounded_as_a_whole(store: Database) -> None:
    session: SessionId = rows.start(store)
    with store.begin() as conn:
        budgets.bound_session(conn, session, Decimal("0.5"), budget_id=new_id())
    holder = Holder(Scope.SESSION, str(session))
    assert budget(store, holder).period is Period.TOTAL
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    assert ask(store, claim, "0.6").found is Found.EXCEEDED
    with store.begin() as conn:
        budgets.bound_session(conn, session, None, budget_id=new_id())
        budgets.bound_session(conn, session, None, budget_id=new_id())
    assert ask(store, claim, "0.6").found is Found.FREE


def test_a_turn_that_is_sent_again_later_keeps_its_limit(store: Database) -> None:
    session = rows.start(store)
    steps.send(store, session, max_cost_usd="0.5")
    with store.begin() as conn:
        assert conn.scalars(select(turn_rows.c.max_cost_usd)).one() == Decimal("0.5")
