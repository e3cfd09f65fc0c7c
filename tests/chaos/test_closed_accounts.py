"""Limits and closed accounts among several workers, one of which dies at the wrong moment."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.chaos.books import Books
from tests.chaos.stage import Stage
from tests.chaos.system import PATIENCE, Servers, System, until
from turnmill import TurnState

WAIT = PATIENCE.total_seconds()
LEASE = timedelta(seconds=1.5)


@pytest.fixture(scope="module")
def stage(servers: Servers) -> Iterator[Stage]:
    with System(servers, lease=LEASE) as system, system.client() as client:
        stage = Stage(system, client)
        stage.workers()
        yield stage
        assert Books.of(system).violations == []


def closed(stage: Stage, seconds: float) -> datetime:
    """Have the mock say later, to one call that does not come again; return until when."""
    refused = stage.send(script={"faults": ["rate_limited"], "retry_after": seconds})
    until(stage.client.accounts.list)
    refused.cancel(wait=True)
    return stage.client.accounts.list()[0].closed_until


def test_one_later_is_heard_by_all_workers_and_costs_those_who_wait_nothing(stage: Stage) -> None:
    opens_at = closed(stage, 4.0)
    time_left = (opens_at - datetime.now(UTC)).total_seconds()
    assert time_left > 2.0
    before = stage.system.count_calls()
    turns = [stage.send() for _ in range(30)]
    until(lambda: all(one.refresh().record.waits_for == "account" for one in turns))
    assert stage.client.turns.get(turns[0].id).why().reasons[0].cause == "account"
    assert stage.system.count_calls() == before
    for one in turns:
        assert [each.n for each in one.result(timeout=WAIT).attempts] == [1]
    first = min(call.started_at for one in turns for call in stage.system.calls_of(one.id))
    assert 0.0 <= first - opens_at.timestamp() < 0.7
    assert stage.client.accounts.list() == []


def test_a_worker_that_dies_while_it_tries_lets_another_one_try(stage: Stage) -> None:
    closed(stage, 1.0)
    probe = stage.send(script={"latency": 600})
    until(lambda: stage.system.calls_of(probe.id))
    waiting = [stage.send() for _ in range(10)]
    until(lambda: all(one.refresh().record.waits_for == "account" for one in waiting))
    stage.kill_owner(probe)
    for one in waiting:
        one.result(timeout=WAIT)
    probe.cancel(wait=True)
    assert stage.client.accounts.list() == []


def test_permits_of_a_worker_that_dies_are_given_to_the_others(stage: Stage) -> None:
    stage.client.limits.set(provider="mock", concurrent=2)
    try:
        for _ in range(3):  # by then both workers know of it
            stage.send().result(timeout=WAIT)
        hanging = [stage.send(script={"latency": 600}) for _ in range(2)]
        until(lambda: all(stage.system.calls_of(one.id) for one in hanging))
        waiting = [stage.send() for _ in range(5)]
        until(lambda: all(one.refresh().record.waits_for == "limit" for one in waiting))
        for one in hanging:
            if one.refresh().state is TurnState.RUNNING:
                stage.kill_owner(one)
        for one in hanging:
            one.cancel(wait=True)
        for one in waiting:
            one.result(timeout=WAIT)
    finally:
        stage.client.limits.remove(provider="mock")


def test_whoever_waits_for_a_limit_goes_on_when_it_is_removed(stage: Stage) -> None:
    stage.client.limits.set(provider="mock", requests_per_minute=1)
    stage.send().result(timeout=WAIT)
    turns = [stage.send() for _ in range(20)]
    until(lambda: sum(one.refresh().record.waits_for == "limit" for one in turns) > 10)
    stage.client.limits.remove(provider="mock")
    for one in turns:
        assert [each.n for each in one.result(timeout=WAIT).attempts] == [1]
