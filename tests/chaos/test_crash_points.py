"""Each point at which a process can die, and who comes to the rescue.

Processes are real: `stage.arm` lays a trap for the worker that comes first, the other one comes
to the rescue; `stage.client_falls` runs a client that kills itself. Only where a test says so does
a beat run.
"""

import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tests.chaos.books import Books
from tests.chaos.faulty_client import TEXT
from tests.chaos.stage import Stage, course
from tests.chaos.system import PATIENCE, Servers, System, kill, until
from turnmill import Client
from turnmill.store.database import Database
from turnmill.store.line.claim import claim
from turnmill.store.line.leases import LOSSES_TO_DEATH, take_lost
from turnmill.sync.turns import Turn

WAIT = PATIENCE.total_seconds()
LEASE = timedelta(seconds=1.5)
ENDLESS = {"latency": 600}

SENT = ("send", "succeeded")
LOST = ("send", "lost")


@pytest.fixture(scope="module")
def stage(servers: Servers) -> Iterator[Stage]:
    with System(servers, lease=LEASE) as system, system.client() as client:
        stage = Stage(system, client)
        yield stage
        assert Books.of(system, standstills=stage.standstills).complaints() == []


def test_1_a_client_that_dies_before_its_commit_has_sent_nothing(stage: Stage) -> None:
    session = stage.session()
    stage.client_falls("before_commit", session)
    assert list(stage.client.sessions.history(session)) == []
    again = stage.client.send(session, TEXT, idempotency_key="once")
    assert again.created
    again.result(timeout=WAIT)


@pytest.mark.parametrize("point", ["before_publish", "after_commit"])
def test_2_a_client_that_dies_after_its_commit_is_answered_by_a_dispatcher(
    stage: Stage, point: str
) -> None:
    session = stage.session()
    stage.client_falls(point, session)
    message = next(stage.client.sessions.history(session))
    assert message.turn_id is not None
    reply = stage.client.turns.get(message.turn_id).result(timeout=WAIT)
    assert course(reply.attempts) == [SENT]


def test_3_a_client_that_missed_the_response_repeats_its_key_and_gets_its_turn(
    stage: Stage,
) -> None:
    session = stage.session()
    stage.client_falls("before_response", session)
    turn = stage.client.send(session, TEXT, idempotency_key="once")
    assert not turn.created
    turn.result(timeout=WAIT)
    assert len(stage.system.calls_of(turn.id)) == 1


@pytest.mark.parametrize("point", ["announce.noted", "publish.after"])
def test_4_a_dispatcher_that_dies_around_its_publishing_is_relieved_by_another(
    stage: Stage, point: str
) -> None:
    stage.arm(point)
    with Client(database_url=stage.system.database_url) as mute:
        turn = mute.send(stage.session(), TEXT)
    stage.fall()
    # A worker may die with its own hint in hand: then its lease has to run out first.
    assert course(stage.client.turns.get(turn.id).result(timeout=WAIT).attempts)[-1] == SENT
    assert len(stage.system.calls_of(turn.id)) == 1


def test_5_a_hint_that_the_broker_lost_is_published_again_within_seconds(stage: Stage) -> None:
    session = stage.session()
    with stage.frozen():
        turns = [stage.send() for _ in range(20)] + [stage.send(session=session)]
        with stage.system.servers.redis() as redis:
            redis.flushall()
    for turn in turns:
        assert course(turn.result(timeout=WAIT).attempts) == [SENT]


def test_6_a_worker_that_dies_before_its_claim_has_spent_nothing(stage: Stage) -> None:
    stage.arm("claim.before")
    turn = stage.send()
    stage.fall()
    assert course(turn.result(timeout=WAIT).attempts) == [SENT]
    assert turn.refresh().record.lost == 0


def test_7_a_turn_whose_worker_died_after_the_claim_is_asked_about_and_sent(stage: Stage) -> None:
    stage.arm("claim.after")
    turn = stage.send()
    stage.fall()
    assert course(turn.result(timeout=WAIT).attempts) == [LOST, ("check", "absent"), SENT]
    assert len(stage.system.calls_of(turn.id)) == 1


def test_7_a_turn_that_was_taken_without_a_hint_is_no_less_safe(stage: Stage) -> None:
    stage.arm("poll.after")
    with Client(database_url=stage.system.database_url) as mute:
        turn = stage.client.turns.get(mute.send(stage.session(), TEXT).id)
    stage.fall()
    assert course(turn.result(timeout=WAIT).attempts) == [LOST, ("check", "absent"), SENT]


def test_8_a_turn_that_is_not_marked_as_sent_is_sent_again_without_asking(stage: Stage) -> None:
    stage.arm("mark.before")
    turn = stage.send(session=stage.session(on_ambiguous="hold"))
    stage.fall()
    assert course(turn.result(timeout=WAIT).attempts) == [LOST, SENT]


def test_8_a_turn_that_is_marked_as_sent_waits_for_an_operator(stage: Stage) -> None:
    stage.arm("mark.after")
    turn = stage.send(session=stage.session(on_ambiguous="hold"))
    stage.fall()
    until(lambda: turn.refresh().state == "unknown")
    stage.send().result(timeout=WAIT)
    assert course(turn.attempts()) == [LOST]
    assert stage.system.calls_of(turn.id) == []
    assert turn.cancel() == "cancelled"


def test_9_a_turn_whose_worker_died_during_the_call_is_asked_about_then_sent(stage: Stage) -> None:
    turn = stage.send(script=ENDLESS)
    stage.await_call(turn)
    stage.kill_owner(turn)
    _cure(stage, turn)
    reply = turn.result(timeout=WAIT)
    assert course(reply.attempts) == [LOST, ("check", "unknowable"), SENT]
    assert len(stage.system.calls_of(turn.id)) == 2


def test_9_a_reply_that_the_provider_has_given_is_adopted_and_not_paid_twice(stage: Stage) -> None:
    stage.arm("settle.before")
    turn = stage.send()
    stage.fall()
    assert course(turn.result(timeout=WAIT).attempts) == [LOST, ("check", "succeeded")]
    assert len(stage.system.calls_of(turn.id)) == 1


def test_10_replies_in_hand_outlive_a_crash_of_the_database(stage: Stage) -> None:
    turns = [stage.send(script={"latency": 1.0}) for _ in range(20)]
    for turn in turns:
        stage.await_call(turn)
    stage.system.servers.crash_postgres()
    until(lambda: all(stage.system.calls_of(turn.id)[0].ended_at for turn in turns))
    stage.system.servers.postgres.restart()
    for turn in turns:
        assert course(turn.result(timeout=WAIT).attempts) == [SENT]
        assert len(stage.system.calls_of(turn.id)) == 1


def test_11_a_verdict_whose_commit_nobody_acknowledged_counts_once(stage: Stage) -> None:
    stage.arm("settle.after", "disconnect")
    session = stage.session()
    turn = stage.send(session=session)
    following = stage.send(session=session)
    assert course(turn.result(timeout=WAIT).attempts) == [SENT]
    following.result(timeout=WAIT)
    assert len(stage.system.calls_of(turn.id)) == 1


def test_11_a_claim_whose_commit_nobody_acknowledged_runs_out_with_its_lease(stage: Stage) -> None:
    stage.arm("claim.after", "disconnect")
    turn = stage.send()
    assert course(turn.result(timeout=WAIT).attempts) == [LOST, ("check", "absent"), SENT]


def test_12_the_next_turn_is_woken_though_the_worker_died_before_it_could(stage: Stage) -> None:
    stage.workers()
    session = stage.session()
    first = stage.send(session=session, script={"latency": 0.5})
    second = stage.send(session=session)
    stage.await_call(first)
    stage.arm("settle.after")
    stage.fall()
    assert first.refresh().state == "succeeded"
    assert course(second.result(timeout=WAIT).attempts) == [SENT]


def test_13_what_a_worker_frozen_past_its_lease_has_to_say_is_paid_for_and_no_more(
    stage: Stage,
) -> None:
    stage.workers()
    refused = stage.system.logs().count("nothing was changed")
    turn = stage.send(script={"latency": 0.5})
    stage.await_call(turn)
    with stage.frozen(stage.owner(turn)):
        reply = turn.result(timeout=WAIT)
    assert course(reply.attempts)[0] == LOST
    until(lambda: stage.system.logs().count("nothing was changed") > refused)
    again = turn.result(timeout=WAIT)
    assert (again.text, course(again.attempts)) == (reply.text, course(reply.attempts))
    assert again.usage.output_tokens == 2 * (reply.usage.output_tokens or 0)


def test_13_a_worker_frozen_before_its_call_does_not_make_it_when_it_wakes(stage: Stage) -> None:
    stage.arm("call.before", "freeze")
    turn = stage.send(script={"latency": 1.0})
    until(lambda: not stage.trap.exists())
    with stage.frozen(stage.owner(turn)):
        until(lambda: len(turn.attempts()) > 1)
    reply = turn.result(timeout=WAIT)
    assert course(reply.attempts)[0] == LOST
    assert [call.fence for call in stage.system.calls_of(turn.id)] == [reply.attempts[-1].fence]


def test_13_a_worker_frozen_in_its_call_makes_it_once_and_changes_nothing(stage: Stage) -> None:
    stage.arm("call.begun", "freeze")
    refused = stage.system.logs().count("nothing was changed")
    turn = stage.send()
    until(lambda: not stage.trap.exists())
    owner = stage.owner(turn)
    with stage.frozen(owner):
        reply = turn.result(timeout=WAIT)
        assert len(stage.system.calls_of(turn.id)) == 1
    until(lambda: len(stage.system.calls_of(turn.id)) == 2)
    until(lambda: stage.system.logs().count("nothing was changed") > refused)
    assert course(turn.attempts()) == course(reply.attempts)
    assert course(reply.attempts)[0] == LOST
    assert turn.result(timeout=WAIT).text == reply.text


@pytest.mark.long
def test_14_a_poison_turn_dies_of_its_losses_and_its_session_goes_on(stage: Stage) -> None:
    stage.workers()
    session = stage.session()
    poison = stage.send(session=session, script={"faults": "segfault"})
    following = stage.send(session=session)
    stage.fall()
    following.result(timeout=WAIT)
    record = poison.refresh().record
    assert (record.state, record.error_code) == ("dead", "worker_lost")
    assert record.lost == LOSSES_TO_DEATH
    assert stage.system.logs().count(f"turn {poison.id} is dead: worker_lost") == 1
    assert all(worker.poll() is None for worker in stage.workers())


@pytest.mark.long
def test_14_a_suspect_outlives_the_worker_that_keeps_it_in_quarantine(stage: Stage) -> None:
    turn = stage.send(script=ENDLESS)
    stage.await_call(turn)
    stage.kill_owner(turn)
    _cure(stage, turn, latency=5.0)
    until(lambda: len(stage.system.calls_of(turn.id)) == 2)
    stage.kill_owner(turn)
    assert course(turn.result(timeout=WAIT).attempts) == [LOST, ("check", "unknowable"), SENT]


def test_15_a_loss_that_eight_dispatchers_find_at_once_counts_once(stage: Stage) -> None:
    database = Database(stage.system.database_url, pool_size=8)
    together = threading.Barrier(8)

    def look(_: int) -> int:
        together.wait()
        with database.begin() as conn:
            return take_lost(conn, lease=timedelta(0), limit=500).turns

    with stage.frozen(), ThreadPoolExecutor(8) as pool:
        turns = [stage.send() for _ in range(20)]
        _claim_and_vanish(database, turns)
        assert sum(pool.map(look, range(8))) == len(turns)
    for turn in turns:
        turn.result(timeout=WAIT)
        assert turn.refresh().record.lost == 1
    database.close()


def test_15_a_dispatcher_that_dies_half_way_leaves_no_half(stage: Stage) -> None:
    stage.workers()
    turn = stage.send(script=ENDLESS)
    stage.await_call(turn)
    owner = stage.owner(turn)
    stage.arm("lost.uncommitted")
    kill(owner)
    _cure(stage, turn)
    stage.fall()  # the owner
    stage.fall()  # the one that has found the loss, and has not committed it
    stage.workers()
    reply = turn.result(timeout=WAIT)
    assert turn.refresh().record.lost == 1
    assert course(reply.attempts).count(LOST) == 1


def test_16_turns_go_on_when_beat_is_dead(stage: Stage) -> None:
    beat = stage.system.launch_beat()
    stage.system.await_ready(beat)
    kill(beat)
    retried = stage.send(script={"faults": ["rate_limited"]})
    later = stage.client.send(
        stage.session(), TEXT, deliver_at=datetime.now(UTC) + timedelta(seconds=1)
    )
    assert course(retried.result(timeout=WAIT).attempts) == [("send", "retrying"), SENT]
    assert later.result(timeout=WAIT).timing.queued >= timedelta(seconds=1)


@pytest.mark.long
def test_17_workers_whose_clocks_are_an_hour_off_lose_and_delay_nothing(stage: Stage) -> None:
    app = "tests.chaos.stepped_worker"
    ahead = stage.system.launch_worker(app=app, TURNMILL_CLOCK_STEP="3600")
    behind = stage.system.launch_worker(app=app, TURNMILL_CLOCK_STEP="-3600")
    with stage.frozen():
        stage.system.await_ready(ahead, behind)
        # Fewer than what closes a model, which fails for each of them.
        script = {"faults": ["unreachable"], "latency": LEASE.total_seconds() + 1}
        turns = [stage.send(script=script) for _ in range(8)]
        replies = [turn.result(timeout=WAIT) for turn in turns]
    kill(ahead)
    kill(behind)
    workers = {int(one.worker.rpartition(":")[2]) for reply in replies for one in reply.attempts}
    assert workers == {ahead.pid, behind.pid}
    for reply in replies:
        assert course(reply.attempts) == [("send", "retrying"), SENT]
        assert reply.timing.total < timedelta(seconds=30)


def _cure(stage: Stage, turn: Turn, *, latency: float = 0.0) -> None:
    """Let the provider answer the turn from now on."""
    script = json.dumps({"mock": {"latency": latency}})
    stage.system.rows(
        "UPDATE turnmill.turns SET metadata = %s WHERE id = %s RETURNING id", script, turn.id
    )


def _claim_and_vanish(database: Database, turns: Sequence[Turn]) -> None:
    ids = [turn.id for turn in turns]
    with database.begin() as conn:
        assert len(claim(conn, ids, owner="gone", lease=timedelta(microseconds=1))) == len(ids)
