"""Why a turn does not run that two things stand in the way of: either one alone would go on to."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.contract.store.test_why import (
    IN_AN_HOUR,
    asked,
    due_since,
    later,
    put_off,
    retried,
    sent,
)
from turnmill.domain.ids import TurnId
from turnmill.show.why_view import in_a_cell, in_a_line
from turnmill.store.database import Database
from turnmill.store.nouns.accounts import ACCOUNT, AccountKey, close
from turnmill.store.nouns.why import Cause

pytestmark = pytest.mark.usefixtures("sound")


@pytest.mark.parametrize(
    ("seed", "cause"),
    [
        (retried, Cause.RETRY),
        (later, Cause.LATER),
        (lambda store: put_off(store, "limit"), Cause.LIMIT),
        (lambda store: put_off(store, "budget"), Cause.BUDGET),
        (lambda store: put_off(store, "crm"), Cause.LAYER),
    ],
)
def test_a_target_that_is_closed_for_longer_than_a_turn_waits_is_named_too(
    store: Database, seed: Callable[[Database], TurnId], cause: Cause
) -> None:
    turn, key = seed(store), AccountKey(kind=ACCOUNT, provider="mock")
    with store.begin() as conn:
        close(conn, key, wait=lambda _: IN_AN_HOUR / 2, code="insufficient_quota")
    assert [one.cause for one in asked(store, turn).reasons] == [cause]
    with store.begin() as conn:
        close(conn, key, wait=lambda _: IN_AN_HOUR * 2, code="insufficient_quota")
    found = asked(store, turn)
    assert [one.cause for one in found.reasons] == [cause, Cause.ACCOUNT]
    assert found.likely_at == found.reasons[1].until
    assert in_a_cell(found).count("until") >= 1
    assert "turnmill accounts open mock" in in_a_line(found)


def test_who_has_no_worker_is_told_so_beside_a_closed_account(store: Database) -> None:
    turn = sent(store)
    due_since(store, turn, timedelta(minutes=2))
    with store.begin() as conn:
        close(conn, AccountKey(kind=ACCOUNT, provider="mock"), wait=lambda _: IN_AN_HOUR, code="x")
    found = asked(store, turn)
    assert [one.cause for one in found.reasons] == [Cause.NO_WORKER, Cause.ACCOUNT]
    assert found.likely_at is None
    assert in_a_cell(found).startswith("no worker: account until ")
