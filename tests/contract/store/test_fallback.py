"""Which target a turn goes on with, and whom each attempt has asked, is a row's to say."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import update

from tests import rows, stepping, steps
from turnmill.domain.states import TurnState
from turnmill.store.analytics import usage
from turnmill.store.database import Database
from turnmill.store.line import leases
from turnmill.store.nouns import turns
from turnmill.store.records import Claim
from turnmill.store.schema.tables import attempts as attempt_rows
from turnmill.store.turn_records import AttemptRecord
from turnmill.verbs.reply import read_reply

pytestmark = pytest.mark.usefixtures("sound")

FALLBACK = ["anthropic/claude-sonnet-4-5", "mock/large"]
MOVED: dict[str, Any] = {
    "target": 1,
    "benched": 1,
    "given_up": 1,
    "answered_because": "overloaded",
}


def claimed(store: Database, **options: Any) -> Claim:
    session = rows.start(store, **{"fallback": FALLBACK, **options})
    return steps.take_one(store, steps.send(store, session).turn_id)


def attempts(store: Database, claim: Claim) -> list[AttemptRecord]:
    with store.begin() as conn:
        return turns.attempts_of(conn, claim.turn_id)


def moved(store: Database, claim: Claim, **options: Any) -> Claim:
    """Settle the claim so that the turn goes on with another target, and take it again."""
    steps.end(store, claim, TurnState.RETRYING, **MOVED | options)
    return steps.take_one(store, claim.turn_id)


def marked(store: Database, claim: Claim, **changes: Any) -> bool:
    with store.begin() as conn:
        return leases.mark_target(conn, replace(claim, **changes))


def test_a_turn_begins_with_the_sessions_own_and_its_attempt_says_so(store: Database) -> None:
    claim = claimed(store)
    assert (claim.target, claim.benched, claim.given_up, claim.because) == (0, 0, 0, None)
    assert (claim.provider, claim.own, claim.asked_of) == ("mock", None, None)
    assert [one.provider for one in attempts(store, claim)] == ["mock"]


def test_a_turn_goes_on_with_the_target_of_its_verdict_and_the_attempt_names_it(
    store: Database,
) -> None:
    again = moved(store, claimed(store))
    assert (again.target, again.benched, again.given_up) == (1, 1, 1)
    assert again.because == "overloaded"
    assert [one.provider for one in attempts(store, again)] == ["mock", "anthropic"]
    steps.end(store, again, TurnState.RETRYING)
    third = steps.take_one(store, again.turn_id)
    assert (third.target, third.because) == (1, "overloaded")


def test_the_last_attempt_is_given_back_to_a_question_whose_turn_goes_on_with_another_target(
    store: Database,
) -> None:
    claim = claimed(store, max_attempts=1)
    steps.end(store, claim, TurnState.UNKNOWN, outcome="maybe_sent")
    steps.due_now(store, claim.turn_id)
    question = steps.take_one(store, claim.turn_id)
    assert (question.kind, question.attempt) == ("check", 1)
    again = moved(store, question, outcome="absent", gives_attempt_back=True)
    assert (again.kind, again.attempt, again.target) == ("send", 1, 1)


def test_who_is_asked_instead_is_noted_by_whoever_holds_the_turn(store: Database) -> None:
    claim = claimed(store)
    there = {"target": 2, "benched": 3, "because": "account", "provider": "mock", "model": "large"}
    assert marked(store, claim, **there)
    steps.lose(store, claim.turn_id)
    assert not marked(store, claim, **there | {"target": 1})
    question = steps.take_one(store, claim.turn_id)
    assert (question.kind, question.target, question.because) == ("check", 2, "account")
    assert question.asked_of == ("mock", "large")


def test_a_question_names_who_was_asked_though_the_session_names_others_by_now(
    store: Database,
) -> None:
    claim = moved(store, claimed(store))
    rows.update_session(store, claim.session_id, fallback=None)
    steps.end(store, claim, TurnState.WAITING, native_ref="work_1")
    steps.due_now(store, claim.turn_id)
    question = steps.take_one(store, claim.turn_id)
    assert (question.kind, question.asked_of) == ("resume", ("anthropic", "claude-sonnet-4-5"))


def test_the_next_step_is_taken_by_whoever_took_the_last_one(store: Database) -> None:
    claim = moved(store, claimed(store))
    stepping.call(store, claim)
    assert [one.provider for one in attempts(store, claim)] == ["mock", "anthropic", "anthropic"]


def test_a_reply_names_who_has_answered_and_why(store: Database) -> None:
    claim = moved(store, claimed(store))
    name = "anthropic/claude-sonnet-4-5"
    steps.end(store, claim, answered_by=name, answered_because="overloaded", provider_ref="")
    record = steps.turn(store, claim.turn_id)
    with store.begin() as conn:
        reply = read_reply(conn, claim.turn_id)
    assert reply is not None
    for one in (record, reply):
        assert (one.answered_by, one.answered_because) == (name, "overloaded")


def test_a_reply_of_the_sessions_own_names_that_also_when_its_model_was_changed_since(
    store: Database,
) -> None:
    claim = moved(store, claimed(store))
    own = moved(store, claim, target=0)
    steps.end(store, own)
    rows.update_session(store, claim.session_id, model="newer")
    with store.begin() as conn:
        reply = read_reply(conn, claim.turn_id)
    assert reply is not None
    record = steps.turn(store, claim.turn_id)
    assert (record.answered_by, record.answered_because) == ("mock/mock", None)
    assert (reply.answered_by, reply.answered_because) == ("mock/mock", None)


def test_a_turn_without_a_reply_was_answered_by_nobody(store: Database) -> None:
    claim = moved(store, claimed(store))
    assert steps.turn(store, claim.turn_id).answered_because == "overloaded"
    steps.end(store, claim, TurnState.FAILED)
    record = steps.turn(store, claim.turn_id)
    assert (record.answered_by, record.answered_because) == (None, "overloaded")


def test_a_turn_that_is_retried_begins_anew(store: Database) -> None:
    claim = moved(store, claimed(store))
    steps.end(store, claim, TurnState.FAILED)
    steps.retry(store, claim.turn_id)
    again = steps.take_one(store, claim.turn_id)
    assert (again.target, again.benched, again.given_up, again.because) == (0, 0, 0, None)


def test_an_attempt_of_before_is_one_of_the_sessions_own(store: Database) -> None:
    claim = claimed(store)
    steps.end(store, claim, cost_usd=Decimal("0.5"))
    with store.begin() as conn:
        conn.execute(update(attempt_rows).values(provider=None, asked_model=None))
    assert steps.turn(store, claim.turn_id).answered_by == "mock/mock"
    assert _report(store) == {"mock/mock": (1, 1, 1, 0, Decimal("0.5"))}


def test_usage_is_counted_where_it_was_used_and_a_turn_where_it_was_answered(
    store: Database,
) -> None:
    claim = claimed(store)
    steps.end(store, claim, TurnState.RETRYING, **MOVED, cost_usd=Decimal("0.125"))
    again = steps.take_one(store, claim.turn_id)
    steps.end(store, again, answered_by="anthropic/claude-sonnet-4-5", cost_usd=Decimal("0.5"))
    assert _report(store) == {
        "anthropic/claude-sonnet-4-5": (1, 1, 1, 1, Decimal("0.5")),
        "mock/mock": (0, 0, 1, 0, Decimal("0.125")),
    }


def _report(store: Database) -> dict[str, tuple[Any, ...]]:
    today = datetime.now(UTC).date()
    with store.begin() as conn:
        usage.roll_up(conn)
        found = usage.report(conn, first=today, last=today)
    return {
        f"{one.provider}/{one.model}": (
            one.turns,
            one.succeeded,
            one.attempts,
            one.retries,
            one.cost_usd,
        )
        for one in found
    }
