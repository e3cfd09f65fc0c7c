"""What a call may cost is reserved before it, and charged after it: never more than the limit."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests import rows, stepping, steps
from tests.budgeting import ADA, ALL, CENT, ask, ask_all, bound, budget, end, lose, one, sums
from turnmill.domain.budgets import Period, Scope
from turnmill.domain.states import TurnState
from turnmill.store.budget_records import Found, Holder
from turnmill.store.compaction_records import NewCompaction
from turnmill.store.database import Database
from turnmill.store.line.compactions import keep_compaction
from turnmill.store.line.leases import mark_sent

pytestmark = [
    pytest.mark.usefixtures("sound"),
    # A file is written to as memory is.
    pytest.mark.parametrize("store", ["postgres", "memory"], indirect=True),
]


def test_what_a_call_may_cost_is_reserved_and_what_it_did_is_charged(store: Database) -> None:
    bound(store, "1")
    claim = one(store)
    assert claim.budgeted
    assert ask(store, claim, "0.4").found is Found.RESERVED
    assert sums(store) == (0, 0, Decimal("0.4"))
    end(store, claim, cost_usd=Decimal("0.15"))
    assert sums(store) == (Decimal("0.15"), 0, 0)
    assert budget(store).left_usd == Decimal("0.85")


def test_a_turn_that_no_budget_bounds_is_free(store: Database) -> None:
    assert not one(store).budgeted
    bound(store, "1", Holder(Scope.USER, "bob"))
    claim = one(store)
    assert ask(store, claim, "5").found is Found.FREE
    end(store, claim, cost_usd=Decimal(5))
    assert sums(store, Holder(Scope.USER, "bob")) == (0, 0, 0)


def test_what_is_not_used_comes_back_to_the_last_digit(store: Database) -> None:
    bound(store, "1")
    for cost in ("0.1000000001", "0.0000000003", "0"):
        claim = one(store)
        assert ask(store, claim, "0.3333333333").found is Found.RESERVED
        end(store, claim, cost_usd=Decimal(cost))
    assert sums(store) == (Decimal("0.1000000004"), 0, 0)


def test_a_call_that_does_not_fit_beside_what_is_spent_fails(store: Database) -> None:
    bound(store, "1")
    claim = one(store)
    ask(store, claim, "0.6")
    end(store, claim, cost_usd=Decimal("0.6"))
    assert ask(store, one(store), "0.41").found is Found.EXCEEDED
    assert ask(store, one(store), "0.40").found is Found.RESERVED
    assert budget(store).left_usd == 0


def test_a_call_that_fits_but_for_reservations_waits_for_them_a_little(store: Database) -> None:
    bound(store, "1")
    first = one(store)
    ask(store, first, "0.9")
    found = ask(store, one(store), "0.2")
    assert found.found is Found.LATER
    assert found.wait is not None and found.wait <= timedelta(seconds=1)
    end(store, first, cost_usd=Decimal("0.1"))
    assert ask(store, one(store), "0.2").found is Found.RESERVED


def test_a_free_call_is_made_whatever_is_spent(store: Database) -> None:
    bound(store, "0")
    assert ask(store, one(store), "0").found is Found.RESERVED
    assert ask(store, one(store), CENT).found is Found.EXCEEDED


def test_a_price_that_nobody_knows_is_no_reservation(store: Database) -> None:
    bound(store, "1")
    assert ask(store, one(store), None).found is Found.UNPRICED
    assert sums(store) == (0, 0, 0)
    assert ask(store, one(store, user_id="bob"), None).found is Found.FREE


def test_a_group_takes_what_fits_and_no_call_is_in_the_way_of_a_smaller_one(
    store: Database,
) -> None:
    bound(store, "1")
    claims = [one(store) for _ in range(5)]
    amounts: list[str | Decimal | None] = ["1.5", "0.3", "0.3", "0.3", "0.3"]
    left = list(zip(claims, amounts, strict=True))
    told: dict[int, Found] = {}
    while left:
        found = ask_all(store, left)
        answers = list(zip(left, found, strict=True))
        told |= {claims.index(pair[0]): answer.found for pair, answer in answers}
        left = [pair for pair, answer in answers if answer.found is Found.AGAIN]
    assert told[0] is Found.EXCEEDED
    assert [told[n] for n in range(1, 5)] == [*(Found.RESERVED,) * 3, Found.LATER]
    assert sums(store)[2] == Decimal("0.9")


def test_a_call_has_to_fit_into_every_budget_of_its_turn(store: Database) -> None:
    bound(store, "10", ALL)
    bound(store, "1", ADA, period=Period.DAY)
    session = rows.start(store)
    bound(store, "0.5", Holder(Scope.SESSION, str(session)), period=Period.TOTAL)
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    assert ask(store, claim, "0.6").found is Found.EXCEEDED
    assert sums(store, ALL) == (0, 0, 0)
    assert ask(store, claim, "0.5").found is Found.RESERVED
    end(store, claim, cost_usd=Decimal("0.2"))
    for holder in (ALL, ADA, Holder(Scope.SESSION, str(session))):
        assert sums(store, holder) == (Decimal("0.2"), 0, 0)


def test_a_tag_is_one_of_the_turn_or_else_of_its_session(store: Database) -> None:
    bound(store, "1", Holder(Scope.TAG, "team", "red"))
    red = rows.start(store, metadata={"team": "red"})
    claim = steps.take_one(store, steps.send(store, red).turn_id)
    assert ask(store, claim, "0.1", "team").found is Found.RESERVED
    end(store, claim, cost_usd=Decimal("0.1"))
    other = steps.take_one(store, steps.send(store, red, metadata={"team": "blue"}).turn_id)
    assert ask(store, other, "0.1", "team").found is Found.FREE
    mine = rows.start(store)
    claim = steps.take_one(store, steps.send(store, mine, metadata={"team": "red"}).turn_id)
    assert ask(store, claim, "5", "team").found is Found.EXCEEDED
    assert ask(store, claim, "5").found is Found.FREE  # no tag is looked at here


@pytest.mark.parametrize(
    ("of_turn", "bounded"), [(7, "7"), (True, "true"), (None, "red"), ("", ""), (1.5, "1.5")]
)
def test_what_is_no_text_is_a_tag_by_its_json_and_null_says_nothing(
    store: Database, of_turn: object, bounded: str
) -> None:
    bound(store, "1", Holder(Scope.TAG, "team", bounded))
    session = rows.start(store, metadata={"team": "red"})
    turn = steps.send(store, session, metadata={"team": of_turn}).turn_id
    assert ask(store, steps.take_one(store, turn), "5", "team").found is Found.EXCEEDED


def test_a_budget_for_each_turn_counts_all_of_its_calls(store: Database) -> None:
    bound(store, "1", period=Period.TURN)
    claim = one(store)
    assert ask(store, claim, "0.7").found is Found.RESERVED
    end(store, claim, TurnState.RETRYING, cost_usd=Decimal("0.6"))
    again = steps.take_one(store, claim.turn_id)
    assert ask(store, again, "0.5").found is Found.EXCEEDED
    assert ask(store, again, "0.4").found is Found.RESERVED
    assert ask(store, one(store), "1").found is Found.RESERVED
    assert sums(store) == (0, 0, 0)


def test_a_turn_has_a_limit_of_its_own(store: Database) -> None:
    session = rows.start(store)
    claim = steps.take_one(store, steps.send(store, session, max_cost_usd="0.5").turn_id)
    assert claim.budgeted
    assert ask(store, claim, "0.6").found is Found.EXCEEDED
    assert ask(store, claim, None).found is Found.UNPRICED
    assert ask(store, claim, "0.5").found is Found.RESERVED
    end(store, claim, TurnState.RETRYING, cost_usd=Decimal("0.3"))
    again = steps.take_one(store, claim.turn_id)
    assert ask(store, again, "0.21").found is Found.EXCEEDED


def test_a_claim_that_asks_again_gives_back_what_it_had(store: Database) -> None:
    bound(store, "1")
    claim = one(store)
    ask(store, claim, "0.9")
    assert ask(store, claim, "1").found is Found.RESERVED
    assert sums(store)[2] == 1
    assert ask(store, claim, "0.2").found is Found.RESERVED
    assert sums(store)[2] == Decimal("0.2")


def test_who_lost_the_turn_reserves_nothing(store: Database) -> None:
    bound(store, "1")
    claim = one(store)
    lose(store, claim)
    assert ask(store, claim, "0.1").found is Found.FENCED
    assert sums(store) == (0, 0, 0)


def test_a_call_that_costs_more_than_its_bound_is_charged_all_the_same(store: Database) -> None:
    bound(store, "1")
    claim = one(store)
    ask(store, claim, "0.9")
    end(store, claim, cost_usd=Decimal("1.2"))
    assert sums(store) == (Decimal("1.2"), 0, 0)
    assert budget(store).left_usd == 0


@pytest.mark.parametrize("state", [TurnState.FAILED, TurnState.QUEUED, TurnState.CANCELLED])
def test_a_call_that_came_to_nothing_gives_all_back(store: Database, state: TurnState) -> None:
    bound(store, "1")
    claim = one(store)
    ask(store, claim, "0.4")
    end(store, claim, state)
    assert sums(store) == (0, 0, 0)


def test_a_cost_that_nobody_knows_is_all_that_was_reserved_and_is_marked(store: Database) -> None:
    bound(store, "1")
    claim = one(store)
    ask(store, claim, "0.4")
    end(store, claim, priced=False, unsettled=True)
    assert sums(store) == (Decimal("0.4"), Decimal("0.4"), 0)


def test_what_a_lost_worker_had_reserved_is_charged_as_an_estimate(store: Database) -> None:
    bound(store, "1")
    claim = one(store)
    ask(store, claim, "0.4")
    lose(store, claim)
    assert sums(store) == (Decimal("0.4"), Decimal("0.4"), 0)


def test_nothing_is_charged_for_a_lost_call_that_never_left(store: Database) -> None:
    bound(store, "1")
    claim = one(store, on_ambiguous="hold")
    ask(store, claim, "0.4")
    lose(store, claim)
    assert sums(store) == (0, 0, 0)
    again = steps.take_one(store, claim.turn_id)
    ask(store, again, "0.4")
    with store.begin() as conn:
        assert mark_sent(conn, again.turn_id, fence=again.fence)
    lose(store, again)
    assert sums(store) == (Decimal("0.4"), Decimal("0.4"), 0)


@pytest.mark.parametrize(
    ("verdict", "spent", "estimated"),
    [
        ({"state": TurnState.SUCCEEDED, "cost_usd": Decimal("0.1"), "reconciles": True}, "0.1", 0),
        ({"state": TurnState.RETRYING, "outcome": "absent", "reconciles": True}, "0", 0),
        ({"state": TurnState.RETRYING, "outcome": "unknowable"}, "0.4", "0.4"),
        ({"state": TurnState.UNKNOWN, "outcome": "unanswered"}, "0.4", "0.4"),
        ({"state": TurnState.SUCCEEDED, "priced": False, "reconciles": True}, "0.4", "0.4"),
    ],
)
def test_an_estimate_stands_until_a_check_tells_the_truth(
    store: Database, verdict: dict[str, Any], spent: str, estimated: Any
) -> None:
    bound(store, "1")
    claim = one(store)
    ask(store, claim, "0.4")
    lose(store, claim)
    check = steps.take_one(store, claim.turn_id)
    assert check.kind == "check" and check.budgeted
    end(store, check, **verdict)
    assert sums(store) == (Decimal(spent), Decimal(estimated), 0)


def test_only_the_last_estimate_is_taken_back_by_a_check(store: Database) -> None:
    bound(store, "1")
    claim = one(store, on_ambiguous="reconcile")
    ask(store, claim, "0.2")
    lose(store, claim)
    check = steps.take_one(store, claim.turn_id)
    end(store, check, TurnState.RETRYING, outcome="unknowable")
    again = steps.take_one(store, claim.turn_id)
    ask(store, again, "0.3")
    lose(store, again)
    check = steps.take_one(store, claim.turn_id)
    end(store, check, cost_usd=Decimal("0.1"), reconciles=True)
    assert sums(store) == (Decimal("0.3"), Decimal("0.2"), 0)


def test_work_in_the_background_is_an_estimate_until_it_is_done(store: Database) -> None:
    bound(store, "1")
    claim = one(store)
    ask(store, claim, "0.4")
    end(store, claim, TurnState.WAITING, native_ref="work", unsettled=True)
    assert sums(store) == (Decimal("0.4"), Decimal("0.4"), 0)
    done = steps.take_one(store, claim.turn_id)
    end(store, done, cost_usd=Decimal("0.25"), reconciles=True)
    assert sums(store) == (Decimal("0.25"), 0, 0)


def test_each_step_is_charged_as_it_comes(store: Database) -> None:
    bound(store, "1")
    claim = one(store)
    ask(store, claim, "0.4")
    step = stepping.call(store, claim, stepping.new_call(), budgeted=True, cost_usd=CENT)
    assert sums(store) == (CENT, 0, 0)
    assert ask(store, step, "0.5").found is Found.RESERVED
    assert sums(store) == (CENT, 0, Decimal("0.5"))
    end(store, step, TurnState.FAILED)
    assert sums(store) == (CENT, 0, 0)


def test_a_summary_is_charged_while_the_rest_stays_reserved(store: Database) -> None:
    bound(store, "1")
    claim = one(store)
    ask(store, claim, "0.4")
    made = NewCompaction(kind="summarise", up_to_seq=1, turns=1, summary="so far", cost_usd=CENT)  # type: ignore[arg-type]
    with store.begin() as conn:
        assert keep_compaction(conn, claim, made)
    assert sums(store) == (CENT, 0, Decimal("0.39"))
    assert ask(store, claim, "0.5").found is Found.RESERVED
    end(store, claim, cost_usd=Decimal("0.2"))
    assert sums(store) == (Decimal("0.21"), 0, 0)
