"""Limits and closed accounts among several workers, one of which dies at the wrong moment."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from tests.chaos.books import Books
from tests.chaos.hearing import is_put_off, send_until_all_put_off
from tests.chaos.stage import Stage
from tests.chaos.system import PATIENCE, Servers, System, kill, until

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
    """Have the mock say later, to one call that does not come again; return until when.

    All workers have heard of it by then: where it has opened before, it is closed for longer.
    """
    listed = stage.client.accounts.list
    refused = stage.send(script={"faults": ["rate_limited"], "retry_after": seconds})
    until(lambda: listed() or refused.refresh().record.finished_at)
    refused.cancel(wait=True)
    for one in send_until_all_put_off(stage.send, waits_for="account", still=listed):
        one.cancel(wait=True)
    found = listed()
    return found[0].closed_until if found else closed(stage, 2 * seconds)


def test_one_later_is_heard_by_all_workers_and_costs_those_who_wait_nothing(stage: Stage) -> None:
    closed(stage, 600.0)
    before = stage.system.count_calls()
    turns = [stage.send() for _ in range(30)]
    until(lambda: all(is_put_off(one, "account") for one in turns))
    assert turns[0].why().reasons[0].cause == "account"
    assert stage.system.count_calls() == before
    stage.client.accounts.open(provider="mock")
    for one in turns:
        assert [each.n for each in one.result(timeout=WAIT).attempts] == [1]
    assert stage.client.accounts.list() == []


def test_who_waits_for_an_account_comes_when_it_opens_and_not_before(stage: Stage) -> None:
    opens_at = closed(stage, 3.0)
    turns = [stage.send() for _ in range(30)]
    for one in turns:
        assert [each.n for each in one.result(timeout=WAIT).attempts] == [1]
    assert min(call.started_at for one in turns for call in stage.system.calls_of(one.id)) >= (
        opens_at.timestamp()
    )
    assert stage.client.accounts.list() == []


def test_a_worker_that_dies_while_it_tries_lets_another_one_try(stage: Stage) -> None:
    closed(stage, 1.0)
    probe = stage.send(script={"latency": 600})
    until(lambda: stage.system.calls_of(probe.id))
    waiting = [stage.send() for _ in range(10)]
    stage.kill_owner(probe)
    for one in waiting:
        one.result(timeout=WAIT)
    probe.cancel(wait=True)
    assert stage.client.accounts.list() == []


def test_permits_of_a_worker_that_dies_are_given_to_the_others(stage: Stage) -> None:
    stage.client.limits.set(provider="mock", concurrent=2)
    try:
        sent = send_until_all_put_off(
            lambda: stage.send(script={"latency": 600}), waits_for="limit"
        )
        waiting = [stage.send() for _ in range(5)]
        until(lambda: all(is_put_off(one, "limit") for one in waiting))
        holding = [one for one in sent if stage.system.calls_of(one.id)]
        for owner in {one.pid: one for one in map(stage.owner, holding)}.values():
            kill(owner)
        stage.fall()
        for one in sent:
            one.cancel(wait=True)
        for one in waiting:
            one.result(timeout=WAIT)
    finally:
        stage.client.limits.remove(provider="mock")


def test_whoever_waits_for_a_limit_goes_on_when_it_is_removed(stage: Stage) -> None:
    stage.client.limits.set(provider="mock", requests_per_minute=1)
    turns = send_until_all_put_off(stage.send, waits_for="limit")
    turns += [stage.send() for _ in range(20)]
    until(lambda: sum(is_put_off(one, "limit") for one in turns) > 10)
    stage.client.limits.remove(provider="mock")
    for one in turns:
        assert [each.n for each in one.result(timeout=WAIT).attempts] == [1]
