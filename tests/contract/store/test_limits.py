"""Limits as rows: what all workers together are given, and what one that is gone gives back."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from tests import rows, steps
from turnmill.domain.ids import TurnId
from turnmill.domain.pacing import Answer, Ask, Rates
from turnmill.domain.states import FOR_ACCOUNT, FOR_LIMIT, Lane, TurnState
from turnmill.store.database import Database
from turnmill.store.line.recall import recall
from turnmill.store.nouns.limits import (
    LimitKey,
    Share,
    Wanted,
    get_limit,
    learn,
    list_limits,
    read_limits,
    remove_limit,
    set_limit,
    share,
    take,
)
from turnmill.store.schema.limit_tables import permits
from turnmill.store.schema.tables import turns as turn_rows
from turnmill.store.types import db_after
from turnmill.store.upkeep.invariants import violations
from turnmill_worker.providers.allowances import allowances_in

KEY = LimitKey(provider="mock", model="m")
pytestmark = pytest.mark.usefixtures("sound")


def limited(store: Database, rpm: int | None = None, concurrent: int | None = None) -> None:
    with store.begin() as conn:
        set_limit(conn, KEY, requests_per_minute=rpm, tokens_per_minute=None, concurrent=concurrent)


def asked(store: Database, calls: int, *, line: str | None = None, unused: int = 0) -> Answer:
    with store.begin() as conn:
        found = take(conn, KEY, Wanted(asks=[Ask(line=line)] * calls, unused=unused))
    assert found is not None
    return found


def shared(store: Database, owner: str, wanted: int) -> Share:
    with store.begin() as conn:
        found = share(conn, KEY, owner=owner, wanted=wanted, for_seconds=5.0)
    assert found is not None
    return found


def put_off(store: Database, *, waits_for: str = FOR_LIMIT, lane: str = "interactive") -> TurnId:
    turn = rows.send(store, rows.start(store), lane=Lane(lane))
    rows.run(
        store,
        turn,
        TurnState.QUEUED,
        outcome="not_now",
        delay=timedelta(hours=1),
        waits_for=waits_for,
        gives_attempt_back=True,
    )
    return turn


def recalled(store: Database, *waits_for: str, limit: int = 10) -> list[TurnId]:
    with store.begin() as conn:
        return [head.turn_id for head in recall(conn, waits_for, provider="mock", limit=limit)]


def test_what_is_set_stands_until_it_is_set_anew_or_removed(store: Database) -> None:
    limited(store, rpm=600)
    limited(store, concurrent=3)
    with store.begin() as conn:
        found = get_limit(conn, KEY)
        assert found is not None
        assert (found.requests_per_minute, found.concurrent, found.learned) == (None, 3, False)
        remove_limit(conn, "mock", "m")
        assert get_limit(conn, KEY) is None
        assert list_limits(conn) == []


def test_all_workers_together_are_given_no_more_than_there_is(store: Database) -> None:
    limited(store, rpm=60)
    given = [begins for _ in range(5) for begins in asked(store, 10).begins]
    assert 3 <= len(given) <= 5
    assert given == sorted(given)


def test_whoever_is_not_given_a_permit_has_a_place_behind_all_others(store: Database) -> None:
    limited(store, rpm=60)
    asked(store, 10)
    first = asked(store, 3, line="i1").places["i1"]
    second = asked(store, 1, line="i1").places["i1"]
    assert list(first) == sorted(first)
    assert second[0] > first[-1]


def test_permits_that_were_not_used_are_given_to_others(store: Database) -> None:
    limited(store, rpm=60)
    before = len(asked(store, 10).begins)
    assert len(asked(store, 10, unused=before).begins) == before


def test_no_more_calls_are_in_flight_than_may_be(store: Database) -> None:
    limited(store, concurrent=5)
    assert shared(store, "one", 3) == Share(held=3, is_full=False)
    assert shared(store, "two", 3) == Share(held=2, is_full=True)
    assert shared(store, "three", 1) == Share(held=0, is_full=True)
    assert shared(store, "one", 1).held == 1
    assert shared(store, "three", 9).held == 2


def test_permits_of_a_worker_that_is_gone_are_given_to_others(store: Database) -> None:
    limited(store, concurrent=2)
    shared(store, "gone", 2)
    with store.begin() as conn:
        conn.execute(update(permits).values(until=db_after(-1.0)))
    assert shared(store, "two", 2).held == 2


def test_what_a_vendor_says_that_has_no_limit_is_kept_and_so_is_what_it_says_beside(
    store: Database,
) -> None:
    key = LimitKey(provider="openai", account="sha256:1", model="m")
    said = {
        "x-ratelimit-limit-requests": "9" * 15,
        "x-ratelimit-limit-tokens": "150000",
        "x-ratelimit-remaining-tokens": "0",
    }
    heard = allowances_in(said)
    assert heard.requests is not None and heard.tokens is not None
    rates = Rates(requests_per_minute=heard.requests.limit, tokens_per_minute=heard.tokens.limit)
    with store.begin() as conn:
        learn(conn, key, rates, hold=30.0)
    with store.begin() as conn:
        found = get_limit(conn, key)
    assert found is not None
    assert (found.requests_per_minute, found.tokens_per_minute) == (2**31 - 1, 150_000)


def test_what_a_vendor_tells_is_known_by_its_account(store: Database) -> None:
    key = LimitKey(provider="mock", account="ab12", model="m")
    with store.begin() as conn:
        learn(conn, key, Rates(requests_per_minute=600), hold=None)
        learn(conn, key, Rates(requests_per_minute=900), hold=30.0)
        (found,) = list_limits(conn)
        assert (found.requests_per_minute, found.learned) == (900, True)
        (limit,) = read_limits(conn)
        assert limit.idle < -29
        held = take(conn, key, Wanted(asks=[Ask()]))
    assert held is not None and not held.begins


def test_those_who_wait_for_it_are_recalled_and_no_others(store: Database) -> None:
    bulk, mine, other = (
        put_off(store, lane="bulk"),
        put_off(store),
        put_off(store, waits_for=FOR_ACCOUNT),
    )
    assert recalled(store, FOR_LIMIT, limit=1) == [mine]
    assert recalled(store, FOR_LIMIT) == [bulk]
    assert recalled(store, FOR_LIMIT) == []
    assert recalled(store, FOR_ACCOUNT) == [other]


def broken(store: Database, turn: TurnId, **values: Any) -> set[str]:
    """Return which promises are broken where the turn says this."""
    with store.begin() as conn:
        conn.execute(update(turn_rows).where(turn_rows.c.id == turn).values(**values))
        return {one.name for one in violations(conn) if one.turn_id == turn}


def test_waiting_that_costs_an_attempt_or_does_not_say_for_what_is_found(store: Database) -> None:
    turn = put_off(store)
    assert broken(store, turn, waits_for=None) == {"waiting_says_for_what"}
    assert broken(
        store, turn, waits_for=FOR_LIMIT, attempt=steps.turn(store, turn).max_attempts
    ) == {"waiting_costs_no_attempt"}
    assert broken(store, turn, attempt=0) == set()


def elsewhere(store: Database, target: int, *, waits_for: str, model: str = "large") -> TurnId:
    """Return a turn that is put off at this target of its session."""
    session = rows.start(store, provider="openai", fallback=[f"mock/{model}", "anthropic/tiny"])
    turn = rows.send(store, session)
    rows.run(
        store,
        turn,
        TurnState.QUEUED,
        outcome="not_now",
        delay=timedelta(hours=1),
        waits_for=waits_for,
        gives_attempt_back=True,
        target=target,
    )
    return turn


def test_whoever_waits_with_all_his_targets_comes_when_the_first_of_them_opens(
    store: Database,
) -> None:
    own, other = (elsewhere(store, target, waits_for=FOR_ACCOUNT) for target in (0, 2))
    small = elsewhere(store, 0, waits_for=FOR_ACCOUNT, model="small")
    with store.begin() as conn:
        assert recall(conn, [FOR_ACCOUNT], provider="mock", model="huge", limit=10) == []
        assert recall(conn, [FOR_ACCOUNT], provider="azure", limit=10) == []
        found = recall(conn, [FOR_ACCOUNT], provider="mock", model="large", limit=1)
        found += recall(conn, [FOR_ACCOUNT], provider="mock", model="large", limit=10)
        assert [head.turn_id for head in found] == [own, other]
        (last,) = recall(conn, [FOR_ACCOUNT], provider="anthropic", limit=10)
        assert last.turn_id == small


def test_a_limit_is_waited_for_by_whoever_is_to_ask_that_target(store: Database) -> None:
    own, first, second = (elsewhere(store, target, waits_for=FOR_LIMIT) for target in (0, 1, 2))
    with store.begin() as conn:
        found = recall(conn, [FOR_LIMIT], provider="openai", limit=10)
        assert [head.turn_id for head in found] == [own]
        found = recall(conn, [FOR_LIMIT], provider="mock", limit=10)
        assert {head.turn_id for head in found} == {first, second}  # as far as a text tells


def test_whoever_is_recalled_can_be_claimed_at_once_and_has_spent_nothing(store: Database) -> None:
    turn = put_off(store)
    assert steps.take(store, turn) == []
    recalled(store, FOR_LIMIT)
    claim = steps.take_one(store, turn)
    assert (claim.attempt, claim.n, claim.waits_for) == (1, 1, FOR_LIMIT)


def test_a_turn_that_somebody_runs_is_not_recalled(store: Database) -> None:
    turn = put_off(store)
    recalled(store, FOR_LIMIT)
    steps.take_one(store, turn)
    assert recalled(store, FOR_LIMIT) == []
