"""Whoever dies with an answer in hand, or half-way through deleting: nothing stays there."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.chaos.books import Books
from tests.chaos.stage import Stage, course
from tests.chaos.system import PATIENCE, Servers, System, until
from tests.doubles.on_a_thread import Vendor
from tests.doubles.openai_server import KEY

WAIT = PATIENCE.total_seconds()
LEASE = timedelta(seconds=1.5)
CHAIN = {"provider": "openai", "model": "gpt-5-mini"}
BACKGROUND = {**CHAIN, "settings": {"background": True}}


@pytest.fixture(scope="module")
def stage(servers: Servers, vendor: Vendor) -> Iterator[Stage]:
    reach = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": vendor.double.base_url}
    with System(servers, lease=LEASE, environment=reach) as system, system.client() as client:
        yield Stage(system, client)
        assert Books.of(system).complaints() == []


def owed(stage: Stage) -> int:
    return len(stage.system.rows("SELECT ref FROM turnmill.kept_refs WHERE due_at IS NOT NULL"))


def test_16_what_was_deleted_by_a_worker_that_died_before_it_could_note_it_is_deleted_again(
    stage: Stage, vendor: Vendor
) -> None:
    session = stage.session(**CHAIN)
    for _ in range(3):
        stage.send(session=session).result(timeout=WAIT)
    stage.arm("close.unnoted")
    stage.client.sessions.delete(session)
    stage.fall()
    assert vendor.double.kept == {}
    assert owed(stage) == 3
    stage.system.rows(
        "UPDATE turnmill.kept_refs SET due_at = now() WHERE due_at IS NOT NULL RETURNING ref"
    )
    until(lambda: owed(stage) == 0)


def test_16_work_whose_answer_a_worker_took_to_its_grave_is_looked_up_again_and_deleted(
    stage: Stage, vendor: Vendor
) -> None:
    vendor.double.meet("slow")
    session = stage.session(**BACKGROUND)
    turn = stage.send(session=session)
    until(lambda: turn.refresh().state == "waiting")
    stage.client.sessions.pause(session)  # nobody looks before the trap is laid
    until(lambda: turn.refresh().state == "waiting")
    vendor.double.finish()
    stage.arm("settle.before")
    stage.client.sessions.resume(session)
    stage.fall()
    reply = turn.result(timeout=WAIT)
    assert course(reply.attempts) == [("send", "lost"), ("resume", "succeeded")]
    assert len(vendor.double.kept) == 1
    stage.client.sessions.delete(session)
    until(lambda: vendor.double.kept == {} and owed(stage) == 0)


def test_16_an_answer_that_comes_back_after_its_lease_was_lost_is_deleted(
    stage: Stage, vendor: Vendor
) -> None:
    session = stage.session(**CHAIN)
    stage.arm("settle.before", "freeze")
    turn = stage.send(session=session)
    until(lambda: not stage.trap.exists())
    with stage.frozen(stage.owner(turn)):
        turn.result(timeout=WAIT)
        assert len(vendor.double.kept) == 2
    until(lambda: len(vendor.double.kept) == 1)
    assert list(vendor.double.kept) == [stage.client.sessions.get(session).provider_ref]
    stage.client.sessions.delete(session)
    until(lambda: vendor.double.kept == {} and owed(stage) == 0)


def test_16_a_cancel_is_carried_out_though_the_worker_that_asked_the_vendor_died(
    stage: Stage, vendor: Vendor
) -> None:
    vendor.double.meet("slow")
    turn = stage.send(session=stage.session(**BACKGROUND))
    until(lambda: turn.refresh().state == "waiting")
    stage.arm("close.unnoted")
    assert turn.cancel() == "cancelled"
    stage.fall()
    assert vendor.requests("POST", "/cancel")
    stage.system.rows(
        "UPDATE turnmill.kept_refs SET due_at = now() WHERE due_at IS NOT NULL RETURNING ref"
    )
    until(lambda: vendor.double.kept == {} and owed(stage) == 0)
