"""Many at once on one Postgres: whoever comes first, every promise holds afterwards."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pytest

from tests import rows, steps
from tests.crowd import DEADLINE, at_once, succeeded, until_blocked
from turnmill.domain.errors import IdempotencyConflict, TurnNotFound
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import Lane, TurnState
from turnmill.new_ids import new_id
from turnmill.store.database import Database
from turnmill.store.line.accept import accept
from turnmill.store.line.accept_many import accept_many
from turnmill.store.line.claim import claim_due, still_due
from turnmill.store.line.due import purge_deleted
from turnmill.store.line.settle import settle
from turnmill.store.nouns import sessions
from turnmill.store.records import Accepted, Claim, Fenced, Locked, NewTurn, Settled

CLIENTS = 40
ROUNDS = 12


@pytest.fixture
def store(database_url: str) -> Iterator[Database]:
    database = Database(database_url, pool_size=CLIENTS, overflow=10)
    yield database
    steps.assert_sound(database)
    database.close()


def running(store: Database, **options: object) -> Claim:
    session = rows.start(store, **options)
    return steps.take_one(store, steps.send(store, session).turn_id)


def test_forty_clients_with_one_key_make_one_turn_and_no_gap(store: Database) -> None:
    session = rows.start(store)
    sent = succeeded(
        at_once(*[partial(steps.send, store, session, "hi", idempotency_key="k")] * CLIENTS)
    )
    assert len({one.turn_id for one in sent}) == 1
    assert [one.created for one in sent].count(True) == 1
    assert steps.line(store, session).next_seq == 2


def test_a_key_that_another_client_is_using_is_waited_for(store: Database) -> None:
    session = rows.start(store)
    with ThreadPoolExecutor(1) as thread:
        with store.begin() as conn:
            first = accept(conn, session, rows.say("hi", idempotency_key="k"))
            sending = thread.submit(steps.send, store, session, "hi", idempotency_key="k")
            until_blocked(store)
        again = sending.result(timeout=DEADLINE)
    assert (again.turn_id, again.created) == (first.turn_id, False)


def test_forty_clients_with_one_key_and_two_texts_make_one_turn(store: Database) -> None:
    session = rows.start(store)
    texts = ["one", "two"] * (CLIENTS // 2)
    sent = at_once(
        *[partial(steps.send, store, session, text, idempotency_key="k") for text in texts]
    )
    refused = [type(one) for one in sent if isinstance(one, Exception)]
    assert refused == [IdempotencyConflict] * (CLIENTS // 2)
    assert steps.count_turns(store) == 1


def test_forty_clients_of_one_session_are_numbered_without_a_gap(store: Database) -> None:
    session = rows.start(store)
    sent = succeeded(at_once(*[partial(steps.send, store, session)] * CLIENTS))
    assert sum(one.announce for one in sent) == 1
    seqs = sorted(steps.turn(store, one.turn_id).seq for one in sent)
    assert seqs == list(range(1, CLIENTS + 1))


def test_forty_creators_with_one_key_make_one_session(store: Database) -> None:
    made = succeeded(at_once(*[partial(rows.start, store, key="ada:support")] * CLIENTS))
    assert len(set(made)) == 1


def test_forty_claimers_of_one_turn_get_one_claim(store: Database) -> None:
    sent = steps.send(store, rows.start(store)).turn_id
    claims = succeeded(at_once(*[partial(steps.take, store, sent)] * CLIENTS))
    assert sum(len(one) for one in claims) == 1


def test_claimers_of_a_lane_never_share_a_turn(store: Database) -> None:
    sent = {steps.send(store, rows.start(store), lane="bulk").turn_id for _ in range(120)}
    found: list[TurnId] = []
    while len(found) < len(sent):
        claims = succeeded(at_once(*[partial(steps.take_due, store, limit=7)] * 8))
        assert any(claims), "what is due is found"
        found += [claim.turn_id for group in claims for claim in group]
    assert sorted(found) == sorted(sent)


def test_a_send_that_meets_the_last_answer_never_leaves_a_line_without_head(
    store: Database,
) -> None:
    for _ in range(ROUNDS):
        claims = [running(store) for _ in range(6)]
        calls = [partial(steps.send, store, claim.session_id) for claim in claims]
        ends = [partial(until_settled, store, claim) for claim in claims]
        results = succeeded(at_once(*calls, *ends))
        for claim, sent in zip(claims, results[: len(claims)], strict=True):
            assert isinstance(sent, Accepted)
            assert steps.line(store, claim.session_id).head == sent.turn_id


def until_settled(store: Database, claim: Claim, **options: str) -> Settled | Fenced:
    """Settle as the ledger does: a session that is locked is tried again."""
    while True:
        result = steps.end(store, claim, **options)  # type: ignore[arg-type]
        if not isinstance(result, Locked):
            return result


def test_a_send_waits_for_an_answer_that_is_being_written(store: Database) -> None:
    claim = running(store)
    with ThreadPoolExecutor(1) as thread:
        with store.begin() as conn:
            settle(conn, [steps.verdict(claim, TurnState.SUCCEEDED)])
            sending = thread.submit(steps.send, store, claim.session_id)
            until_blocked(store)
        sent = sending.result(timeout=DEADLINE)
    assert sent.announce is True
    assert steps.line(store, claim.session_id).head == sent.turn_id


def test_an_answer_does_not_wait_for_a_send_that_is_being_written(store: Database) -> None:
    claim = running(store)
    with store.begin() as conn:
        sent = accept(conn, claim.session_id, rows.say())
        assert isinstance(steps.end(store, claim), Locked)
    found = steps.end(store, claim)
    assert isinstance(found, Settled)
    assert found.next is not None
    assert found.next.turn_id == sent.turn_id


def test_a_send_is_seen_by_an_answer_that_began_before_it_was_written(store: Database) -> None:
    claim = running(store)
    with gated(store) as role, ThreadPoolExecutor(1) as thread:
        with closed_gate(store):
            ending = thread.submit(end_as, role, store, claim)
            until_blocked(store)  # its snapshot is taken, its lock is not
            sent = steps.send(store, claim.session_id)
        assert isinstance(ending.result(timeout=DEADLINE), Locked)
    found = steps.end(store, claim)
    assert isinstance(found, Settled)
    assert found.next is not None
    assert found.next.turn_id == sent.turn_id


def test_a_claim_by_lane_that_began_before_an_answer_leaves_the_next_turn_to_a_later_one(
    store: Database,
) -> None:
    session = rows.start(store)
    first, second = (steps.send(store, session, lane="bulk").turn_id for _ in "ab")
    with gated(store) as role, ThreadPoolExecutor(1) as thread:
        with closed_gate(store):
            claiming = thread.submit(take_due_as, role, store)
            until_blocked(store)  # its snapshot is taken, its lock is not
            steps.answer(store, first)
        assert claiming.result(timeout=DEADLINE) == []
    (claim,) = steps.take_due(store)
    assert claim.turn_id == second
    assert claim.history is not None
    assert len(claim.history) == 2


def take_due_as(role: str, store: Database) -> list[Claim]:
    with store.begin() as conn:
        conn.exec_driver_sql(f"SET LOCAL ROLE {role}")
        return claim_due(conn, Lane.BULK, limit=10, owner="bulk", lease=steps.LEASE)


@contextmanager
def gated(store: Database) -> Iterator[str]:
    """Yield a role whose statements wait at a gate when they come to read a session's row."""
    role = f"gated_{new_id().hex}"
    with store.begin() as conn:
        for statement in _GATE:
            conn.exec_driver_sql(statement.format(role=role))
    try:
        yield role
    finally:
        with store.begin() as conn:
            conn.exec_driver_sql("DROP POLICY gate ON turnmill.sessions")
            conn.exec_driver_sql("ALTER TABLE turnmill.sessions DISABLE ROW LEVEL SECURITY")
            conn.exec_driver_sql(f"DROP OWNED BY {role}")
            conn.exec_driver_sql(f"DROP ROLE {role}")


_GATE = (
    "CREATE ROLE {role}",
    "GRANT USAGE ON SCHEMA turnmill TO {role}",
    "GRANT ALL ON ALL TABLES IN SCHEMA turnmill TO {role}",
    "CREATE FUNCTION turnmill.pass_gate() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
    " PERFORM pg_advisory_lock_shared(7), pg_advisory_unlock_shared(7); RETURN true; END $$",
    "ALTER TABLE turnmill.sessions ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY gate ON turnmill.sessions USING (turnmill.pass_gate())",
)


@contextmanager
def closed_gate(store: Database) -> Iterator[None]:
    with store.single() as conn:
        conn.exec_driver_sql("SELECT pg_advisory_lock(7)")
        try:
            yield
        finally:
            conn.exec_driver_sql("SELECT pg_advisory_unlock(7)")


def end_as(role: str, store: Database, claim: Claim) -> Settled | Fenced | Locked:
    with store.begin() as conn:
        conn.exec_driver_sql(f"SET LOCAL ROLE {role}")
        (found,) = settle(conn, [steps.verdict(claim, TurnState.SUCCEEDED)])
        return found


def test_a_session_that_is_held_stalls_no_neighbour(store: Database) -> None:
    held, free = running(store), running(store)
    waiting, stuck = (steps.send(store, rows.start(store)) for _ in range(2))
    with store.begin() as conn:
        accept(conn, held.session_id, rows.say())
        accept(conn, stuck.session_id, rows.say())
        results = steps.end_all(
            store,
            steps.verdict(held, TurnState.SUCCEEDED),
            steps.verdict(free, TurnState.SUCCEEDED),
        )
        claims = steps.take(store, stuck.turn_id, waiting.turn_id)
        with store.single() as other:
            missed = still_due(other, [stuck.turn_id, waiting.turn_id], lanes=list(Lane))
        assert steps.beat(store, held).extended == {held.turn_id}
    assert [type(one) for one in results] == [Locked, Settled]
    assert [claim.turn_id for claim in claims] == [waiting.turn_id]
    assert missed == [stuck.turn_id]


def test_a_held_session_with_a_long_line_hides_no_lost_or_overdue_turn(store: Database) -> None:
    busy, other = rows.start(store), rows.start(store)
    with store.begin() as conn:
        accept_many(conn, [(busy, rows.say()) for _ in range(600)])
    overdue = steps.send(store, other).turn_id
    lost, kept = running(store), running(store)
    with store.begin() as conn:
        conn.exec_driver_sql(
            "UPDATE turnmill.turns SET expires_at = created_at WHERE state = 'queued'"
        )
        conn.exec_driver_sql(
            "UPDATE turnmill.turns SET lease_until = created_at WHERE state = 'running'"
        )
    with store.begin() as conn:
        accept(conn, busy, rows.say())
        accept(conn, kept.session_id, rows.say())
        steps.expire(store)
        steps.look_for_lost(store)
    assert steps.state(store, overdue) is TurnState.EXPIRED
    assert steps.state(store, lost.turn_id) is TurnState.UNKNOWN
    assert steps.state(store, kept.turn_id) is TurnState.RUNNING


def test_dispatchers_at_once_count_every_loss_once(store: Database) -> None:
    claims = [running(store) for _ in range(60)]
    with store.begin() as conn:
        conn.exec_driver_sql("UPDATE turnmill.turns SET lease_until = created_at")
    heads = succeeded(at_once(*[partial(steps.look_for_lost, store)] * 6))
    rest = steps.look_for_lost(store)
    found = [head.turn_id for group in (*heads, rest) for head in group]
    assert sorted(found) == sorted(claim.turn_id for claim in claims)
    assert {steps.turn(store, claim.turn_id).lost for claim in claims} == {1}


def test_an_answer_and_a_dispatcher_never_both_have_the_turn(store: Database) -> None:
    for _ in range(ROUNDS):
        claims = [running(store) for _ in range(6)]
        with store.begin() as conn:
            conn.exec_driver_sql(
                "UPDATE turnmill.turns SET lease_until = created_at WHERE state='running'"
            )
        ends = [partial(until_settled, store, claim) for claim in claims]
        results = succeeded(at_once(*ends, partial(steps.look_for_lost, store)))
        for claim, result in zip(claims, results[: len(claims)], strict=True):
            lost = steps.turn(store, claim.turn_id).lost
            assert lost == (0 if isinstance(result, Settled) else 1)


def test_a_cancel_and_an_answer_agree_on_one_end(store: Database) -> None:
    for _ in range(ROUNDS):
        claim = running(store)
        succeeded(
            at_once(
                partial(until_settled, store, claim), partial(steps.cancel, store, claim.turn_id)
            )
        )
        assert steps.state(store, claim.turn_id) in {TurnState.SUCCEEDED, TurnState.CANCELLED}


def test_a_cancel_and_a_claim_of_one_turn_do_not_lose_each_other(store: Database) -> None:
    for _ in range(ROUNDS):
        sent = steps.send(store, rows.start(store)).turn_id
        claims, state = at_once(
            partial(steps.take, store, sent), partial(steps.cancel, store, sent)
        )
        turn = steps.turn(store, sent)
        if claims:
            assert (state, turn.cancel_requested) == (TurnState.RUNNING, True)
        else:
            assert state in {TurnState.CANCELLED, TurnState.RUNNING}
            assert turn.state in {TurnState.CANCELLED, TurnState.QUEUED}


def test_a_resume_that_meets_an_answer_never_names_an_old_head(store: Database) -> None:
    for _ in range(ROUNDS):
        claim = running(store)
        behind = steps.send(store, claim.session_id).turn_id
        succeeded(
            at_once(partial(until_settled, store, claim), partial(resume, store, claim.session_id))
        )
        assert steps.line(store, claim.session_id).head == behind
        assert len(steps.take(store, behind)) == 1


def resume(store: Database, session: SessionId) -> None:
    """Do what a client's resume does."""
    with store.begin() as conn:
        sessions.resume(conn, session)
        sessions.head_of(conn, session)


def test_a_retry_in_place_never_overtakes_a_later_turn_that_starts(store: Database) -> None:
    for _ in range(ROUNDS):
        claim = running(store)
        behind = steps.send(store, claim.session_id).turn_id
        steps.end(store, claim, TurnState.FAILED)
        succeeded(
            at_once(partial(steps.take, store, behind), partial(steps.retry, store, claim.turn_id))
        )
        started = steps.turn(store, behind).started_at is not None
        again = steps.state(store, claim.turn_id)
        assert again is (TurnState.FAILED if started else TurnState.QUEUED)


def test_a_session_that_is_deleted_while_it_works_leaves_nothing(store: Database) -> None:
    for _ in range(ROUNDS):
        claim = running(store)
        results = at_once(
            partial(until_settled, store, claim),
            partial(steps.send, store, claim.session_id),
            partial(remove, store, claim.session_id),
        )
        assert not [one for one in results if isinstance(one, RuntimeError)]
        with store.begin() as conn:
            purge_deleted(conn)
        with pytest.raises(TurnNotFound):
            steps.turn(store, claim.turn_id)
    assert steps.count_turns(store) == 0


def remove(store: Database, session: SessionId) -> None:
    with store.begin() as conn:
        sessions.remove(conn, session)


def test_batches_that_cross_each_other_wait_and_do_not_deadlock(store: Database) -> None:
    lines = [rows.start(store) for _ in range(12)]

    def send_to(order: list[SessionId]) -> None:
        items: list[tuple[SessionId, NewTurn]] = [(one, rows.say()) for one in order * 3]
        with store.begin() as conn:
            accept_many(conn, items)

    succeeded(at_once(*[partial(send_to, lines), partial(send_to, lines[::-1])] * 6))
    assert {steps.line(store, one).next_seq for one in lines} == {37}


def test_groups_of_verdicts_that_cross_each_other_do_not_deadlock(store: Database) -> None:
    claims = [running(store) for _ in range(40)]

    def settle_all(order: list[Claim]) -> int:
        verdicts = [steps.verdict(claim, TurnState.SUCCEEDED) for claim in order]
        return sum(isinstance(one, Settled) for one in steps.end_all(store, *verdicts))

    crossed = [partial(settle_all, claims), partial(settle_all, claims[::-1])] * 3
    written = sum(succeeded(at_once(*crossed)))
    while written < len(claims):
        written += settle_all(claims)
    assert {steps.state(store, claim.turn_id) for claim in claims} == {TurnState.SUCCEEDED}
