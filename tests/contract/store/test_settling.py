"""A verdict is written whole and once, by whoever holds the fence, and moves the line on."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests import rows, steps
from tests.steps import one_claimed, settled
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import TurnState
from turnmill.store.database import Database
from turnmill.store.line.due import purge_deleted
from turnmill.store.line.settle import was_settled
from turnmill.store.nouns import sessions, turns
from turnmill.store.records import Fenced, Settled
from turnmill.store.schema_name import execute
from turnmill.verbs.reply import TokenUsage, read_reply

pytestmark = pytest.mark.usefixtures("sound")

MINUTE = timedelta(minutes=1)


def history(store: Database, session: SessionId) -> list[tuple[str, str]]:
    with store.begin() as conn:
        return [(one.role, one.text) for one in sessions.history(conn, session)]


def test_an_answer_is_stored_with_what_it_cost(store: Database) -> None:
    claim = one_claimed(store)
    result = steps.end(
        store,
        claim,
        reply="hi there",
        input_tokens=11,
        output_tokens=7,
        cached_tokens=4,
        cost_usd=Decimal("0.0012"),
        finish_reason="stop",
        request_id="req_1",
        model="small-2026",
        provider_ms=321,
    )
    assert settled(result).state is TurnState.SUCCEEDED
    assert history(store, claim.session_id) == [("user", "hello"), ("assistant", "hi there")]
    turn, session = steps.turn(store, claim.turn_id), steps.session(store, claim.session_id)
    for counted in (turn, session):
        assert (counted.input_tokens, counted.output_tokens) == (11, 7)
        assert counted.cost_usd == Decimal("0.0012")
    assert (turn.cached_tokens, turn.finish_reason) == (4, "stop")
    with store.begin() as conn:
        (attempt,) = turns.attempts_of(conn, claim.turn_id)
    assert (attempt.outcome, attempt.provider_request_id) == ("succeeded", "req_1")
    assert (attempt.model, attempt.provider_ms) == ("small-2026", 321)


def test_an_answer_brings_the_next_head_to_be_announced(store: Database) -> None:
    session = rows.start(store)
    first, second = (steps.send(store, session).turn_id for _ in range(2))
    found = settled(steps.end(store, steps.take_one(store, first)))
    assert found.next is not None
    assert found.next.turn_id == second
    steps.answer(store, second)
    assert steps.line(store, session).unfinished == 0


def test_a_last_answer_brings_no_next_head(store: Database) -> None:
    found = settled(steps.end(store, one_claimed(store)))
    assert (found.next, found.due_at) == (None, None)


def test_the_next_head_of_a_paused_session_is_not_to_be_announced(store: Database) -> None:
    session = rows.start(store)
    first, second = (steps.send(store, session).turn_id for _ in range(2))
    claim = steps.take_one(store, first)
    with store.begin() as conn:
        sessions.pause(conn, session)
    assert settled(steps.end(store, claim)).next is None
    assert steps.line(store, session).head == second


def test_a_temporary_error_comes_back_when_it_is_due(store: Database) -> None:
    claim = one_claimed(store)
    found = settled(
        steps.end(store, claim, TurnState.RETRYING, delay=MINUTE, error_code="rate_limited")
    )
    assert found.due_at is not None
    assert found.due_at > datetime.now(UTC) + MINUTE / 2
    assert steps.take(store, claim.turn_id) == []
    steps.due_now(store, claim.turn_id)
    again = steps.take_one(store, claim.turn_id)
    assert (again.attempt, again.kind, again.n) == (2, "send", 2)


def test_a_temporary_error_without_delay_is_the_next_head_at_once(store: Database) -> None:
    claim = one_claimed(store)
    found = settled(steps.end(store, claim, TurnState.RETRYING))
    assert found.next is not None
    assert found.next.turn_id == claim.turn_id


def test_a_turn_that_waits_for_its_retry_holds_the_line(store: Database) -> None:
    session = rows.start(store)
    first, second = (steps.send(store, session).turn_id for _ in range(2))
    steps.end(store, steps.take_one(store, first), TurnState.RETRYING, delay=MINUTE)
    assert steps.take(store, second) == []


@pytest.mark.parametrize("final", [TurnState.FAILED, TurnState.DEAD])
def test_a_turn_that_failed_keeps_its_code_and_lets_the_line_go_on(
    store: Database, final: TurnState
) -> None:
    session = rows.start(store)
    first, second = (steps.send(store, session).turn_id for _ in range(2))
    found = settled(steps.end(store, steps.take_one(store, first), final, error_code="refused"))
    assert found.next is not None
    assert found.next.turn_id == second
    turn = steps.turn(store, first)
    assert (turn.state, turn.error_code) == (final, "refused")
    assert steps.session(store, session).turns_failed == 1


@pytest.mark.parametrize("final", [TurnState.FAILED, TurnState.DEAD])
def test_a_session_that_wants_it_is_paused_by_a_failure(store: Database, final: TurnState) -> None:
    session = rows.start(store, on_failure="pause")
    first, second = (steps.send(store, session).turn_id for _ in range(2))
    assert settled(steps.end(store, steps.take_one(store, first), final)).next is None
    assert steps.session(store, session).status == "paused"
    assert steps.take(store, second) == []


def test_background_work_is_resumed_without_spending_an_attempt(store: Database) -> None:
    claim = one_claimed(store, max_attempts=1)
    for number in range(3):
        steps.end(store, claim, TurnState.WAITING, native_ref=f"bg_{number}")
        claim = steps.take_one(store, claim.turn_id)
        assert (claim.kind, claim.native_ref, claim.attempt) == ("resume", f"bg_{number}", 1)
    steps.end(store, claim)
    assert steps.outcomes(store, claim.turn_id) == ["succeeded"]


def test_an_unknown_turn_is_asked_about_without_spending_an_attempt(store: Database) -> None:
    claim = one_claimed(store, max_attempts=1)
    steps.end(store, claim, TurnState.UNKNOWN, outcome="maybe_sent")
    check = steps.take_one(store, claim.turn_id)
    assert (check.kind, check.attempt) == ("check", 1)
    steps.end(store, check)
    assert steps.turn(store, claim.turn_id).attempt == 1


def test_a_release_gives_the_attempt_back(store: Database) -> None:
    claim = one_claimed(store, max_attempts=1)
    found = settled(steps.end(store, claim, TurnState.QUEUED))
    assert found.next is not None
    assert steps.turn(store, claim.turn_id).attempt == 0
    again = steps.take_one(store, claim.turn_id)
    assert (again.attempt, again.n) == (1, 2)


@pytest.mark.parametrize(
    ("state", "kind"), [(TurnState.WAITING, "resume"), (TurnState.UNKNOWN, "check")]
)
def test_a_question_that_is_given_back_stays_a_question(
    store: Database, state: TurnState, kind: str
) -> None:
    claim = one_claimed(store, max_attempts=1)
    steps.end(store, claim, state, native_ref="bg_1")
    asked = steps.take_one(store, claim.turn_id)
    assert settled(steps.end(store, asked, TurnState.QUEUED)).state is state
    again = steps.take_one(store, claim.turn_id)
    assert (again.kind, again.native_ref, again.attempt) == (kind, "bg_1", 1)


def test_a_zombie_writes_nothing_while_its_successor_runs(store: Database) -> None:
    zombie = one_claimed(store)
    steps.lose(store, zombie.turn_id)
    successor = steps.take_one(store, zombie.turn_id)
    assert isinstance(steps.end(store, zombie, reply="late"), Fenced)
    steps.end(store, successor, reply="in time")
    assert isinstance(steps.end(store, zombie, reply="later still"), Fenced)
    assert history(store, zombie.session_id)[-1] == ("assistant", "in time")


def test_a_zombie_of_an_attempt_that_was_lost_writes_nothing(store: Database) -> None:
    zombie = one_claimed(store)
    steps.lose(store, zombie.turn_id)
    assert isinstance(steps.end(store, zombie, TurnState.FAILED), Fenced)
    assert steps.state(store, zombie.turn_id) is TurnState.UNKNOWN


def test_a_verdict_on_a_turn_that_is_gone_is_refused_for_good(store: Database) -> None:
    zombie, other = one_claimed(store), one_claimed(store)
    with store.begin() as conn:
        sessions.remove(conn, zombie.session_id)
    steps.lose(store, zombie.turn_id)
    with store.begin() as conn:
        assert purge_deleted(conn) == 1
    results = steps.end_all(
        store,
        steps.verdict(zombie, TurnState.SUCCEEDED),
        steps.verdict(other, TurnState.SUCCEEDED),
    )
    assert [type(one) for one in results] == [Fenced, Settled]


def test_an_owner_past_its_lease_may_still_write_while_nobody_took_over(store: Database) -> None:
    claim = one_claimed(store)
    with store.begin() as conn:
        execute(conn, "UPDATE turnmill.turns SET lease_until = created_at")
    assert settled(steps.end(store, claim)).state is TurnState.SUCCEEDED


def test_a_verdict_is_written_once_and_known_to_have_been(store: Database) -> None:
    claim = one_claimed(store)
    steps.end(store, claim, reply="yes")
    assert isinstance(steps.end(store, claim, reply="yes"), Fenced)
    with store.begin() as conn:
        assert was_settled(conn, claim.turn_id, claim.fence) is TurnState.SUCCEEDED
    assert steps.session(store, claim.session_id).input_tokens == 3


def test_a_lost_attempt_was_not_settled_by_its_owner(store: Database) -> None:
    claim = one_claimed(store)
    with store.begin() as conn:
        assert was_settled(conn, claim.turn_id, claim.fence) is None
    steps.lose(store, claim.turn_id)
    with store.begin() as conn:
        assert was_settled(conn, claim.turn_id, claim.fence) is None


def test_a_group_writes_what_may_be_written_and_names_the_rest(store: Database) -> None:
    good, zombie, other = (one_claimed(store) for _ in range(3))
    steps.lose(store, zombie.turn_id)
    results = steps.end_all(
        store,
        steps.verdict(good, TurnState.SUCCEEDED),
        steps.verdict(zombie, TurnState.SUCCEEDED),
        steps.verdict(other, TurnState.RETRYING),
    )
    assert [type(one) for one in results] == [Settled, Fenced, Settled]
    assert [one.turn_id for one in results] == [good.turn_id, zombie.turn_id, other.turn_id]


def test_a_cancelled_call_ends_cancelled_keeps_its_cost_and_no_reply(store: Database) -> None:
    claim = one_claimed(store)
    first = steps.turn(store, claim.turn_id)
    assert steps.cancel(store, claim.turn_id) is TurnState.RUNNING
    found = settled(
        steps.end(store, claim, reply="too late", provider_ref="resp_9", cost_usd=Decimal("0.5"))
    )
    assert found.state is TurnState.CANCELLED
    assert history(store, claim.session_id) == [("user", "hello")]
    turn, session = steps.turn(store, claim.turn_id), steps.session(store, claim.session_id)
    assert (turn.cost_usd, session.cost_usd) == (Decimal("0.5"), Decimal("0.5"))
    assert (session.provider_ref, turn.error_code) == ("", "cancelled")
    assert first.cancel_requested is False


@pytest.mark.parametrize(
    "state", [TurnState.RETRYING, TurnState.WAITING, TurnState.UNKNOWN, TurnState.QUEUED]
)
def test_a_turn_that_is_to_end_does_not_come_again(store: Database, state: TurnState) -> None:
    claim = one_claimed(store)
    steps.cancel(store, claim.turn_id)
    assert settled(steps.end(store, claim, state)).state is TurnState.CANCELLED
    assert steps.take(store, claim.turn_id) == []


def test_attempts_without_a_known_price_are_counted_as_such(store: Database) -> None:
    session = rows.start(store)
    for cost in (Decimal("0.25"), None):
        claim = steps.take_one(store, steps.send(store, session).turn_id)
        steps.end(store, claim, cost_usd=cost, priced=cost is not None)
    found = steps.session(store, session)
    assert (found.cost_usd, found.unpriced_attempts) == (Decimal("0.25"), 1)


def test_what_every_attempt_used_adds_up(store: Database) -> None:
    claim = one_claimed(store)
    steps.end(store, claim, TurnState.RETRYING, cost_usd=Decimal("0.25"))
    steps.end(store, steps.take_one(store, claim.turn_id), cost_usd=Decimal("0.5"))
    turn = steps.turn(store, claim.turn_id)
    assert (turn.input_tokens, turn.output_tokens, turn.cost_usd) == (6, 4, Decimal("0.75"))


def test_what_went_into_the_vendors_cache_is_known_of_each_attempt_once_it_was_told(
    store: Database,
) -> None:
    def written(turn_id: TurnId) -> list[int | None]:
        with store.begin() as conn:
            return [one.cache_write_tokens for one in turns.attempts_of(conn, turn_id)]

    session = rows.start(store)
    first = steps.take_one(store, steps.send(store, session).turn_id)
    assert written(first.turn_id) == [None]
    steps.end(store, first, TurnState.WAITING, native_ref="bg", cache_write_tokens=3)
    steps.due_now(store, first.turn_id)
    steps.end(store, steps.take_one(store, first.turn_id), cache_write_tokens=13)
    assert written(first.turn_id) == [16]
    again = steps.take_one(store, steps.send(store, session).turn_id)
    steps.end(store, again, cache_write_tokens=None, priced=False)
    assert written(again.turn_id) == [None]


UNKNOWN: dict[str, Any] = {"input_tokens": None, "output_tokens": None, "cached_tokens": None}


def test_what_one_attempt_used_unknown_is_unknown_of_the_turn_and_a_sum_of_what_is_known(
    store: Database,
) -> None:
    session = rows.start(store)
    first = steps.take_one(store, steps.send(store, session).turn_id)
    steps.end(store, first, TurnState.RETRYING, **UNKNOWN, priced=False)
    again = steps.take_one(store, first.turn_id)
    steps.end(store, again)  # 3 tokens in, 2 out
    steps.answer(store, steps.send(store, session).turn_id)
    turn, found = steps.turn(store, first.turn_id), steps.session(store, session)
    assert (turn.input_tokens, turn.output_tokens, turn.cached_tokens) == (None, None, None)
    assert (found.input_tokens, found.output_tokens, found.unpriced_attempts) == (6, 4, 1)
    with store.begin() as conn:
        attempts = turns.attempts_of(conn, first.turn_id)
        reply = read_reply(conn, first.turn_id)
    assert [one.input_tokens for one in attempts] == [None, 3]
    assert reply is not None
    assert reply.usage == TokenUsage(input_tokens=None, output_tokens=None, cached_tokens=None)
    assert reply.usage.total_tokens is None


def test_a_thread_moves_on_with_answers_only(store: Database) -> None:
    session = rows.start(store)
    first = steps.take_one(store, steps.send(store, session).turn_id)
    steps.end(store, first, provider_ref="resp_1")
    second = steps.take_one(store, steps.send(store, session).turn_id)
    steps.end(store, second, TurnState.RETRYING)
    assert steps.session(store, session).provider_ref == "resp_1"


def test_turns_that_are_final_are_known_and_so_are_those_that_are_gone(store: Database) -> None:
    done, running = one_claimed(store), one_claimed(store)
    steps.end(store, done)
    gone = one_claimed(store)
    steps.end(store, gone)
    with store.begin() as conn:
        sessions.remove(conn, gone.session_id)
        ids: list[TurnId] = [done.turn_id, running.turn_id, gone.turn_id]
        assert turns.finished(conn, ids) == [done.turn_id, gone.turn_id]


def test_a_claim_names_the_user_whose_session_it_is(store: Database) -> None:
    assert one_claimed(store, user_id="grace").user_id == "grace"
