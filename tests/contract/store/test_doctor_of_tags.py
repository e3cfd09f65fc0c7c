"""`turnmill doctor` says what of budgets and figures an environment would pass by."""

from decimal import Decimal

import pytest

from turnmill import Settings
from turnmill.cli.doctor.findings import Examination, Finding, Level
from turnmill.cli.doctor.tags import check_tags
from turnmill.domain.budgets import OnExceeded, Period, Scope
from turnmill.new_ids import new_id
from turnmill.store.analytics.folding import fold
from turnmill.store.budget_records import Holder, NewBudget
from turnmill.store.database import Database
from turnmill.store.nouns.budgets import set_budget


def found(
    store: Database, *, tags: tuple[str, ...] = (), key: str = "", sealed: bool = False
) -> list[Finding]:
    settings = Settings(
        database_url="sqlite://",
        tags=tags,
        analytics_tag=key,
        encryption="on" if sealed else "off",
        encrypt_metadata=sealed,
    )
    return list(check_tags(Examination(settings=settings, environ={}, database=store)))


def said(found: list[Finding]) -> list[tuple[Level, str]]:
    return [(one.level, one.code) for one in found]


@pytest.mark.parametrize(
    ("key", "sealed", "expected"),
    [
        ("team", True, (Level.OK, "")),
        ("team", False, (Level.OK, "")),
        ("", False, None),  # only beat reads it
        ("", True, (Level.WRONG, "tag_of_figures")),
        ("squad", False, (Level.NOTE, "tag_of_figures")),
        ("squad", True, (Level.WRONG, "tag_of_figures")),
    ],
)
def test_a_key_that_figures_go_by_and_that_is_not_named_is_said_where_it_is_lost(
    store: Database, key: str, sealed: bool, expected: tuple[Level, str] | None
) -> None:
    store.run(fold, tag="team")
    assert said(found(store, key=key, sealed=sealed)) == ([] if expected is None else [expected])


def test_a_key_that_beat_does_not_know_yet_is_a_note(store: Database) -> None:
    assert said(found(store, key="team", sealed=True)) == [(Level.NOTE, "tag_of_figures")]


@pytest.mark.parametrize(("sealed", "level"), [(False, Level.NOTE), (True, Level.WRONG)])
def test_a_key_that_budgets_go_by_and_that_is_not_named_is_said_with_the_whole_setting(
    store: Database, sealed: bool, level: Level
) -> None:
    for value in ("blue", "red"):
        new = NewBudget(
            holder=Holder(Scope.TAG, "team", value),
            period=Period.DAY,
            limit_usd=Decimal(1),
            on_exceeded=OnExceeded.FAIL,
            warn_at=(),
            timezone="UTC",
        )
        store.run(set_budget, new, budget_id=new_id())
    (one,) = found(store, tags=("project",), sealed=sealed)
    assert (one.level, one.code) == (level, "tag_of_budgets")
    assert one.fix.startswith("TURNMILL_TAGS=project,team, ")
    assert said(found(store, tags=("project", "team"), sealed=sealed)) == [(Level.OK, "")]


def test_whoever_uses_neither_is_told_nothing(store: Database) -> None:
    assert found(store) == []
