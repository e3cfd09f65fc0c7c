"""A claim is the right to call the provider once: for one worker, the head, when it is due."""

from datetime import UTC, datetime, timedelta

import pytest

from tests import rows, steps
from turnmill.domain.content import Message
from turnmill.domain.ids import TurnId
from turnmill.domain.states import FINAL, Lane, OnAmbiguous, TurnState
from turnmill.new_ids import new_id
from turnmill.store.codec import StoredHistory
from turnmill.store.database import Database
from turnmill.store.line import claim as claims
from turnmill.store.line import pauses
from turnmill.store.line.history import succeeded_history
from turnmill.store.nouns import sessions

pytestmark = pytest.mark.usefixtures("sound")


def test_a_claim_brings_all_that_the_call_needs(store: Database) -> None:
    session = rows.start(
        store,
        provider="openai",
        model="small",
        system_prompt="Be brief.",
        settings={"temperature": 0.5},
        on_ambiguous="hold",
        max_attempts=3,
    )
    sent = steps.send(store, session, "hello", metadata={"ticket": 991}).turn_id
    claim = steps.take_one(store, sent)
    assert (claim.turn_id, claim.session_id, claim.kind) == (sent, session, "send")
    assert (claim.text, claim.history, claim.system_prompt) == (
        "hello",
        StoredHistory(),
        "Be brief.",
    )
    assert (claim.provider, claim.model, claim.settings) == (
        "openai",
        "small",
        {"temperature": 0.5},
    )
    assert (claim.attempt, claim.max_attempts, claim.n) == (1, 3, 1)
    assert (claim.metadata, claim.on_ambiguous) == ({"ticket": 991}, OnAmbiguous.HOLD)


def test_a_claimed_turn_is_nobody_elses(store: Database) -> None:
    sent = steps.send(store, rows.start(store)).turn_id
    steps.take_one(store, sent, owner="one")
    assert steps.take(store, sent, owner="two") == []
    assert steps.turn(store, sent).lease_owner == "one"


def test_only_the_head_of_a_line_is_claimed(store: Database) -> None:
    session = rows.start(store)
    first, second = (steps.send(store, session).turn_id for _ in range(2))
    assert steps.take(store, second) == []
    assert [claim.turn_id for claim in steps.take(store, second, first)] == [first]
    assert steps.take(store, second) == []


@pytest.mark.parametrize("final", [TurnState.SUCCEEDED, TurnState.FAILED, TurnState.DEAD])
def test_a_final_turn_is_not_claimed_however_late_its_hint(
    store: Database, final: TurnState
) -> None:
    sent = steps.send(store, rows.start(store)).turn_id
    steps.end(store, steps.take_one(store, sent), final)
    assert steps.take(store, sent) == []


def test_a_turn_that_does_not_exist_is_not_claimed(store: Database) -> None:
    assert steps.take(store, TurnId(new_id())) == []


def test_heads_of_several_sessions_are_claimed_at_once(store: Database) -> None:
    sent = [steps.send(store, rows.start(store)).turn_id for _ in range(5)]
    assert {claim.turn_id for claim in steps.take(store, *sent)} == set(sent)


def test_a_paused_session_is_passed_over_until_it_is_resumed(store: Database) -> None:
    session = rows.start(store)
    sent = steps.send(store, session).turn_id
    with store.begin() as conn:
        sessions.pause(conn, session)
    assert steps.take(store, sent) == []
    assert steps.take_due(store, Lane.INTERACTIVE) == []
    with store.begin() as conn:
        sessions.resume(conn, session)
        assert [head.turn_id for head in sessions.head_of(conn, session)] == [sent]
    assert len(steps.take(store, sent)) == 1


@pytest.mark.parametrize(("kind", "name"), [("provider", "openai"), ("lane", "bulk")])
def test_what_is_paused_is_passed_over_until_it_is_resumed(
    kind: str, name: str, store: Database
) -> None:
    paused = steps.send(store, rows.start(store, provider="openai"), lane="bulk").turn_id
    other = steps.send(store, rows.start(store, provider="mock")).turn_id
    with store.begin() as conn:
        pauses.pause(conn, kind=kind, name=name)
    assert [claim.turn_id for claim in steps.take(store, paused, other)] == [other]
    assert steps.take_due(store, Lane.BULK) == []
    with store.begin() as conn:
        pauses.resume(conn, kind=kind, name=name)
    assert [claim.turn_id for claim in steps.take_due(store, Lane.BULK)] == [paused]


def test_a_turn_of_a_paused_provider_does_not_count_as_due_and_locked(store: Database) -> None:
    sent = steps.send(store, rows.start(store, provider="openai")).turn_id
    with store.begin() as conn:
        pauses.pause(conn, kind=pauses.PROVIDER, name="openai")
        assert claims.still_due(conn, [sent], lanes=[Lane.INTERACTIVE]) == []


def test_a_hint_in_the_wrong_lane_claims_nothing(store: Database) -> None:
    sent = steps.send(store, rows.start(store), lane="bulk").turn_id
    assert steps.take(store, sent, lanes=[Lane.INTERACTIVE]) == []
    assert steps.take_due(store, Lane.INTERACTIVE) == []
    assert [claim.turn_id for claim in steps.take_due(store, Lane.BULK)] == [sent]


def test_a_lane_gives_what_has_been_due_for_longest_up_to_the_limit(store: Database) -> None:
    now = datetime.now(UTC)
    ages = [3, 9, 1, 7, 5]
    sent = {
        age: steps.send(
            store, rows.start(store), lane="bulk", deliver_at=now - timedelta(seconds=age)
        ).turn_id
        for age in ages
    }
    found = {claim.turn_id for claim in steps.take_due(store, limit=3)}
    assert found == {sent[9], sent[7], sent[5]}


def test_a_lane_of_several_providers_gives_no_more_than_the_limit(store: Database) -> None:
    for number in range(12):
        steps.send(store, rows.start(store, provider=f"p{number % 3}"), lane="bulk")
    assert len(steps.take_due(store, limit=5)) == 5
    assert len(steps.take_due(store, limit=50)) == 7


def test_the_history_is_that_of_succeeded_turns_in_order(store: Database) -> None:
    session = rows.start(store)
    ends = [TurnState.SUCCEEDED, TurnState.FAILED, TurnState.SUCCEEDED, TurnState.DEAD]
    for number, final in enumerate(ends):
        sent = steps.send(store, session, f"question {number}").turn_id
        steps.end(store, steps.take_one(store, sent), final)
    claim = steps.take_one(store, steps.send(store, session, "and now?").turn_id)
    assert claim.history == [
        Message.of("user", "question 0"),
        Message.of("assistant", "answer to question 0"),
        Message.of("user", "question 2"),
        Message.of("assistant", "answer to question 2"),
    ]


def test_a_thread_at_the_provider_stands_for_the_history(store: Database) -> None:
    session = rows.start(store)
    first = steps.take_one(store, steps.send(store, session, "one").turn_id)
    steps.end(store, first, provider_ref="resp_1")
    claim = steps.take_one(store, steps.send(store, session, "two").turn_id)
    assert (claim.provider_ref, list(claim.history or ())) == ("resp_1", [])
    with store.begin() as conn:
        rebuilt = succeeded_history(conn, session)
    assert rebuilt == [Message.of("user", "one"), Message.of("assistant", "answer to one")]


def test_every_claim_of_a_session_has_a_higher_fence(store: Database) -> None:
    session = rows.start(store)
    fences = []
    for _ in range(2):
        sent = steps.send(store, session).turn_id
        for state in (TurnState.RETRYING, TurnState.QUEUED, TurnState.SUCCEEDED):
            claim = steps.take_one(store, sent)
            fences.append(claim.fence)
            steps.end(store, claim, state)
    assert fences == [1, 2, 3, 4, 5, 6]


def test_a_turn_that_has_expired_is_not_run_even_before_a_dispatcher_looks(
    store: Database,
) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    sent = steps.send(store, rows.start(store), lane="bulk", expires=past).turn_id
    assert steps.take(store, sent) == []
    assert steps.take_due(store) == []
    assert steps.state(store, sent) is TurnState.QUEUED


def test_what_is_expired_or_closed_leaves_no_hole_in_the_limit(store: Database) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    for _ in range(4):
        steps.send(store, rows.start(store), lane="bulk", expires=past)
    sent = steps.send(store, rows.start(store), lane="bulk").turn_id
    assert [claim.turn_id for claim in steps.take_due(store, limit=1)] == [sent]


def test_a_claim_says_when_the_turn_first_started(store: Database) -> None:
    sent = steps.send(store, rows.start(store)).turn_id
    assert steps.turn(store, sent).started_at is None
    steps.end(store, steps.take_one(store, sent), TurnState.QUEUED)
    first = steps.turn(store, sent).started_at
    assert first is not None
    steps.answer(store, sent)
    assert steps.turn(store, sent).started_at == first


def test_final_is_final(store: Database) -> None:
    session = rows.start(store)
    for final in sorted(FINAL - {TurnState.CANCELLED, TurnState.EXPIRED}):
        sent = steps.send(store, session).turn_id
        claim = steps.take_one(store, sent)
        steps.end(store, claim, final)
        steps.end(store, claim, TurnState.RETRYING)
        assert steps.lose(store, sent) == []
        assert steps.cancel(store, sent) is final
        assert steps.state(store, sent) is final
