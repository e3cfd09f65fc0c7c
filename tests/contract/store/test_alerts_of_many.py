"""Alerts where more is watched than is looked at: what is open is judged until it is well."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy import update

from tests import rows
from tests.folded import fold_all
from turnmill.domain.analytics.alert_bounds import AlertBounds, Rule
from turnmill.domain.analytics.alerting import Judged, RuleVerdict
from turnmill.domain.budgets import OnExceeded, Period, Scope
from turnmill.domain.states import TurnState
from turnmill.new_ids import new_id
from turnmill.store.analytics import alerts as stored
from turnmill.store.analytics import watching
from turnmill.store.budget_records import Holder, NewBudget
from turnmill.store.database import Database
from turnmill.store.nouns import budgets
from turnmill.store.schema.budget_tables import budgets as budget_rows
from turnmill.store.types import db_after

BOUNDS = AlertBounds()


@pytest.fixture(autouse=True)
def _two_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_MOST_SUBJECTS", 2)


def opened(store: Database, rule: Rule, subject: str) -> None:
    one = Judged(rule=rule, subject=subject, verdict=RuleVerdict.BAD, value=1.0, bound=0.1)
    with store.begin() as conn:
        stored.look(conn, [one])


def judged(store: Database, rule: Rule) -> list[str]:
    with store.begin() as conn:
        return [one.subject for one in watching.judged(conn, BOUNDS).judged if one.rule is rule]


def users_with_budgets(store: Database, spent: Sequence[int]) -> list[UUID]:
    """Give a user each a budget of a hundred dollars, of which so much is spent by now."""
    ids = []
    for n, usd in enumerate(spent):
        new = NewBudget(
            holder=Holder(Scope.USER, f"u{n}", ""),
            period=Period.MONTH,
            timezone="UTC",
            limit_usd=Decimal(100),
            on_exceeded=OnExceeded.FAIL,
            warn_at=(),
        )
        with store.begin() as conn:
            ids.append(budgets.set_budget(conn, new, budget_id=new_id()).id)
            mine = budget_rows.c.id == ids[-1]
            conn.execute(
                update(budget_rows)
                .where(mine)
                .values(spent_usd=Decimal(usd), ends_at=db_after(9 * 86_400.0))
            )
    return ids


def test_a_budget_that_others_have_overtaken_is_still_heading_beyond_its_limit(
    store: Database,
) -> None:
    a, b, c, d = map(str, users_with_budgets(store, [101, 102, 99, 98]))
    fold_all(store)
    assert judged(store, Rule.BUDGET) == [b, a]
    opened(store, Rule.BUDGET, d)
    assert judged(store, Rule.BUDGET) == [b, a, d]
    opened(store, Rule.BUDGET, a)
    assert judged(store, Rule.BUDGET) == [b, a, d]
    assert c not in judged(store, Rule.BUDGET)


def test_a_model_that_others_are_busier_than_still_fails(store: Database) -> None:
    ended = datetime.now(UTC) - timedelta(minutes=40)
    for model, many in (("quiet", 1), ("busy", 3), ("busier", 4), ("other", 2)):
        session = rows.start(store, model=model)
        for _ in range(many):
            turn = rows.send(store, session)
            rows.run(store, turn, TurnState.DEAD)
            rows.ended_at(store, turn, ended)
    fold_all(store)
    assert judged(store, Rule.FAILURES) == ["mock/busier", "mock/busy"]
    assert len(judged(store, Rule.CACHE)) == 2
    for rule in (Rule.FAILURES, Rule.CACHE):
        opened(store, rule, "mock/quiet")
        assert "mock/quiet" in judged(store, rule)
        assert len(judged(store, rule)) == 3
