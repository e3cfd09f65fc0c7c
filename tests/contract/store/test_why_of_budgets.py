"""A turn that waits for a budget says whose it is, and until when."""

from datetime import timedelta

import pytest

from tests import budgeting
from turnmill.domain.budgets import Period, Scope
from turnmill.show.why_view import in_a_cell, in_a_line
from turnmill.store.budget_records import Holder
from turnmill.store.database import Database
from turnmill.store.nouns.why import why, why_each

pytestmark = pytest.mark.usefixtures("sound")


@pytest.mark.parametrize(
    ("holder", "period", "words", "cell"),
    [
        (budgeting.ADA, Period.MONTH, "that of its user for a month, until ", "budget until "),
        (budgeting.ALL, Period.DAY, "that of everybody for a day, until ", "budget until "),
        (budgeting.ADA, Period.TOTAL, "of its user, until its limit is raised", "budget used up"),
        (Holder(Scope.TAG, "team", "red"), Period.WEEK, "that of its tag for a week", "budget un"),
        (budgeting.ADA, Period.TURN, "of its user for a turn, until its", "budget used up"),
    ],
)
def test_who_waits_for_a_budget_is_told_whose_it_is_and_when_its_period_ends(
    store: Database, holder: Holder, period: Period, words: str, cell: str
) -> None:
    claim = budgeting.one(store, metadata={"team": "red"})
    budgeting.bound(store, "5", Holder(Scope.USER, "somebody else"), period=period, wait=True)
    budgeting.bound(store, "9", budgeting.ADA, period=Period.WEEK, wait=True)
    budget = budgeting.bound(store, "0.01", holder, period=period, wait=True)
    budgeting.bound(
        store, "0", budgeting.ADA, period=Period.DAY
    )  # who does not fit there has failed
    budgeting.put_off(store, claim, timedelta(days=1))  # as it looks again at the latest
    with store.begin() as conn:
        found = why(conn, claim.turn_id)
    assert found.reasons[0].until == found.likely_at == budget.period_end
    assert found.reasons[0].name == f"{holder.scope} {period}"
    with store.begin() as conn:
        listed = why_each(conn, [claim.turn_id])[claim.turn_id]
    assert listed.reasons == found.reasons
    assert words in in_a_line(found)
    assert in_a_cell(listed).startswith(cell)
