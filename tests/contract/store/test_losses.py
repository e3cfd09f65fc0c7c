"""Who is silent for a lease is lost: its turn goes on elsewhere, and a poison turn dies alone."""

from datetime import UTC, datetime, timedelta

import pytest

from tests import rows, stepping, steps
from turnmill.domain.states import Lane, TurnState
from turnmill.store.database import Database
from turnmill.store.line import leases
from turnmill.store.records import Claim
from turnmill.store.schema.tables import turns as turn_rows

pytestmark = pytest.mark.usefixtures("sound")


def one_claimed(store: Database, **options: object) -> Claim:
    session = rows.start(store, **options)
    return steps.take_one(store, steps.send(store, session).turn_id)


def lease_until(store: Database, claim: Claim) -> datetime:
    found = steps.turn(store, claim.turn_id).lease_until
    assert found is not None
    return found


def test_a_lease_that_is_kept_is_not_taken(store: Database) -> None:
    claim = one_claimed(store)
    assert steps.look_for_lost(store) == []
    assert steps.state(store, claim.turn_id) is TurnState.RUNNING


def test_a_heartbeat_extends_what_is_really_held(store: Database) -> None:
    held, lost = one_claimed(store), one_claimed(store)
    steps.lose(store, lost.turn_id)
    before = lease_until(store, held)
    found = steps.beat(store, held, lost)
    assert found.extended == {held.turn_id}
    assert found.gone == {lost.turn_id}
    assert lease_until(store, held) >= before


def test_a_heartbeat_under_an_old_fence_extends_nothing(store: Database) -> None:
    zombie = one_claimed(store)
    steps.lose(store, zombie.turn_id)
    successor = steps.take_one(store, zombie.turn_id)
    before = lease_until(store, successor)
    found = steps.beat(store, zombie)
    assert found.extended == frozenset()
    assert found.gone == {zombie.turn_id}
    assert lease_until(store, successor) == before


def test_a_heartbeat_brings_back_who_is_to_stop(store: Database) -> None:
    claim, other = one_claimed(store), one_claimed(store)
    steps.cancel(store, claim.turn_id)
    assert steps.beat(store, claim, other).cancelled == {claim.turn_id}
    with store.begin() as conn:
        assert leases.cancel_requested(conn) == [(claim.turn_id, claim.fence)]
        assert leases.cancel_requested(conn, [other.turn_id]) == []


def test_a_heartbeat_of_nothing_is_nothing(store: Database) -> None:
    assert steps.beat(store) == leases.Beat(
        extended=frozenset(), cancelled=frozenset(), gone=frozenset()
    )


def test_a_lost_turn_is_asked_about_before_it_is_sent_again(store: Database) -> None:
    claim = one_claimed(store)
    (head,) = steps.lose(store, claim.turn_id)
    assert (head.turn_id, head.lane) == (claim.turn_id, Lane.QUARANTINE)
    assert steps.state(store, claim.turn_id) is TurnState.UNKNOWN
    assert steps.take_one(store, claim.turn_id).kind == "check"
    assert steps.outcomes(store, claim.turn_id) == ["lost", None]


def test_a_loss_spends_no_attempt(store: Database) -> None:
    claim = one_claimed(store, max_attempts=1)
    steps.lose(store, claim.turn_id)
    turn = steps.turn(store, claim.turn_id)
    assert (turn.attempt, turn.lost, turn.error_code) == (0, 1, "worker_lost")


def test_a_lost_turn_is_sent_again_at_once_where_that_is_wanted(store: Database) -> None:
    claim = one_claimed(store, on_ambiguous="retry")
    steps.lose(store, claim.turn_id)
    assert steps.state(store, claim.turn_id) is TurnState.RETRYING
    assert steps.take_one(store, claim.turn_id).kind == "send"


def test_a_turn_that_was_lost_runs_in_quarantine_only(store: Database) -> None:
    claim = one_claimed(store)
    steps.lose(store, claim.turn_id)
    assert steps.take(store, claim.turn_id, lanes=[Lane.INTERACTIVE, Lane.BULK]) == []
    assert steps.take_due(store, Lane.INTERACTIVE) == []
    assert [one.turn_id for one in steps.take_due(store, Lane.QUARANTINE)] == [claim.turn_id]


def test_the_turn_after_a_lost_one_runs_where_it_was_sent_to(store: Database) -> None:
    session = rows.start(store)
    first, second = (steps.send(store, session).turn_id for _ in range(2))
    steps.take_one(store, first)
    steps.lose(store, first)
    steps.end(store, steps.take_one(store, first))
    assert steps.line(store, session).lane == "interactive"
    assert len(steps.take(store, second, lanes=[Lane.INTERACTIVE])) == 1


def test_a_turn_dies_of_three_losses_in_quarantine_and_the_line_goes_on(store: Database) -> None:
    session = rows.start(store)
    poison, next_one = (steps.send(store, session).turn_id for _ in range(2))
    for _ in range(leases.LOSSES_TO_DEATH):
        steps.take_one(store, poison)
        heads = steps.lose(store, poison)
    turn = steps.turn(store, poison)
    assert (turn.state, turn.error_code) == (TurnState.DEAD, "worker_lost")
    assert [head.turn_id for head in heads] == [next_one]
    assert steps.session(store, session).turns_failed == 1
    assert steps.outcomes(store, poison) == ["lost"] * leases.LOSSES_TO_DEATH


def test_who_finds_a_turn_dead_of_its_losses_is_told_which_one_it_is(store: Database) -> None:
    claim = one_claimed(store)
    found = []
    for _ in range(leases.LOSSES_TO_DEATH):
        with store.begin() as conn:
            leases.end_leases(conn)
            found.append(leases.take_lost(conn, lease=timedelta(0)).dead)
        steps.take(store, claim.turn_id)
    assert found[:-1] == [[]] * (leases.LOSSES_TO_DEATH - 1)
    (dead,) = found[-1]
    assert (dead.turn_id, dead.session_id) == (claim.turn_id, claim.session_id)
    assert (dead.lost, dead.error_code) == (leases.LOSSES_TO_DEATH, "worker_lost")
    assert (dead.provider, dead.model) == (claim.provider, claim.model)


def test_a_death_by_losses_pauses_a_session_that_wants_it(store: Database) -> None:
    session = rows.start(store, on_failure="pause")
    poison, next_one = (steps.send(store, session).turn_id for _ in range(2))
    for _ in range(leases.LOSSES_TO_DEATH):
        steps.take_one(store, poison)
        heads = steps.lose(store, poison)
    assert heads == []
    assert steps.session(store, session).status == "paused"
    assert steps.take(store, next_one) == []


def test_a_poison_turn_costs_its_neighbours_nothing_but_a_quarantine(store: Database) -> None:
    claims = [one_claimed(store) for _ in range(4)]
    steps.lose(store, *(one.turn_id for one in claims))
    poison, *others = claims
    for one in others:
        steps.end(store, steps.take_one(store, one.turn_id))
    for _ in range(leases.LOSSES_TO_DEATH - 1):
        steps.take_one(store, poison.turn_id)
        steps.lose(store, poison.turn_id)
    assert steps.state(store, poison.turn_id) is TurnState.DEAD
    assert {steps.state(store, one.turn_id) for one in others} == {TurnState.SUCCEEDED}


def test_a_lost_turn_that_somebody_cancelled_ends(store: Database) -> None:
    claim = one_claimed(store)
    steps.cancel(store, claim.turn_id)
    assert steps.lose(store, claim.turn_id) == []
    assert steps.state(store, claim.turn_id) is TurnState.CANCELLED


@pytest.mark.parametrize("on_ambiguous", ["reconcile", "retry", "hold"])
def test_a_lost_resume_is_resumed_and_not_sent_again(store: Database, on_ambiguous: str) -> None:
    claim = one_claimed(store, on_ambiguous=on_ambiguous, max_attempts=1)
    steps.mark_sent(store, claim)
    steps.end(store, claim, TurnState.WAITING, native_ref="bg_1")
    steps.take_one(store, claim.turn_id)
    steps.lose(store, claim.turn_id)
    again = steps.take_one(store, claim.turn_id)
    assert (again.kind, again.native_ref, again.attempt) == ("resume", "bg_1", 1)


@pytest.mark.parametrize("on_ambiguous", ["reconcile", "retry"])
def test_a_lost_question_is_asked_again(store: Database, on_ambiguous: str) -> None:
    claim = one_claimed(store, on_ambiguous=on_ambiguous, max_attempts=1)
    steps.end(store, claim, TurnState.UNKNOWN)
    steps.take_one(store, claim.turn_id)
    steps.lose(store, claim.turn_id)
    again = steps.take_one(store, claim.turn_id)
    assert (again.kind, again.attempt) == ("check", 1)


def test_a_process_that_owns_its_store_takes_all_leases_when_it_starts(store: Database) -> None:
    claim = one_claimed(store)
    with store.begin() as conn:
        leases.end_leases(conn)
        heads = leases.take_lost(conn, lease=timedelta(0)).heads
    assert [head.turn_id for head in heads] == [claim.turn_id]


def test_nothing_is_taken_before_the_server_has_been_up_for_a_lease(store: Database) -> None:
    claim = one_claimed(store)
    with store.begin() as conn:
        conn.execute(
            turn_rows.update().values(lease_until=datetime.now(UTC) - timedelta(seconds=1))
        )
        heads = leases.take_lost(conn, lease=timedelta(days=365)).heads
    expected = [] if store.is_postgres else [claim.turn_id]
    assert [head.turn_id for head in heads] == expected


def test_a_look_takes_no_more_than_its_limit_and_the_oldest_first(store: Database) -> None:
    claims = [one_claimed(store) for _ in range(3)]
    with store.begin() as conn:
        for age, claim in enumerate(claims, start=1):
            conn.execute(
                turn_rows.update()
                .where(turn_rows.c.id == claim.turn_id)
                .values(lease_until=datetime.now(UTC) - age * steps.AGO)
            )
        heads = leases.take_lost(conn, lease=timedelta(0), limit=2).heads
    assert {head.turn_id for head in heads} == {claims[1].turn_id, claims[2].turn_id}


def test_losses_at_one_step_count_and_a_finished_step_begins_anew(store: Database) -> None:
    claim = one_claimed(store, on_ambiguous="retry")
    turn_id = claim.turn_id
    for n in range(leases.LOSSES_TO_DEATH - 1):
        steps.lose(store, turn_id)
        assert steps.turn(store, turn_id).lost == n + 1
        claim = steps.take_one(store, turn_id)
    claim = stepping.call(store, claim)
    stepping.run(store, claim, claim.next_position - 1)
    for n in range(leases.LOSSES_TO_DEATH - 1):
        steps.lose(store, turn_id)
        assert steps.turn(store, turn_id).lost == n + 1
        claim = steps.take_one(store, turn_id)
    steps.lose(store, turn_id)
    assert steps.state(store, turn_id) is TurnState.DEAD


def test_losses_before_a_retry_do_not_count_after_it(store: Database) -> None:
    claim = one_claimed(store, on_ambiguous="retry")
    for _ in range(leases.LOSSES_TO_DEATH - 1):
        steps.lose(store, claim.turn_id)
        claim = steps.take_one(store, claim.turn_id)
    steps.lose(store, claim.turn_id)
    again = steps.retry(store, claim.turn_id)
    steps.take_one(store, again.turn_id)
    steps.lose(store, again.turn_id)
    assert steps.turn(store, again.turn_id).lost == 1
