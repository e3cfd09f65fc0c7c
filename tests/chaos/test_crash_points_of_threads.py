"""A worker that dies while a conversation is begun, lent, or answered: nothing unknown is left."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.chaos.books import Books
from tests.chaos.stage import Stage
from tests.chaos.system import PATIENCE, Servers, System, until
from tests.doubles.on_a_thread import Vendor
from tests.doubles.openai_server import KEY
from tests.openai_sessions import said

WAIT = PATIENCE.total_seconds()
LEASE = timedelta(seconds=1.5)
THREAD = {"provider": "openai", "model": "gpt-5-mini", "thread": "conversation"}


@pytest.fixture(scope="module")
def stage(servers: Servers, vendor: Vendor) -> Iterator[Stage]:
    reach = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": vendor.double.base_url}
    with System(servers, lease=LEASE, environment=reach) as system, system.client() as client:
        yield Stage(system, client)
        assert Books.of(system).complaints() == []


def known(stage: Stage) -> set[str]:
    rows = stage.system.rows("SELECT ref FROM turnmill.kept_refs WHERE is_thread")
    return {row[0] for row in rows}


@pytest.mark.parametrize("point", ["lend.before", "lend.after"])
def test_17_a_conversation_of_a_worker_that_died_before_it_was_written_down_is_empty(
    stage: Stage, vendor: Vendor, point: str
) -> None:
    before = set(vendor.double.conversations)
    session = stage.session(**THREAD)
    stage.arm(point)
    turn = stage.send(session=session)
    stage.fall()
    turn.result(timeout=WAIT)
    begun = set(vendor.double.conversations) - before
    unknown = begun - known(stage)
    assert (len(begun), len(unknown)) == (2, 1)
    for ref in unknown:
        assert not vendor.double.conversations.items_of(ref)
        assert vendor.double.conversations.metadata_of(ref) == {"turnmill_session": session}
    stage.client.sessions.delete(session)
    until(lambda: set(vendor.double.conversations) - before == unknown)


def test_17_a_reply_that_a_worker_took_to_its_grave_stands_in_no_thread(
    stage: Stage, vendor: Vendor
) -> None:
    before = set(vendor.double.conversations)
    session = stage.session(**THREAD)
    stage.client.send(session, "one").result(timeout=WAIT)
    stage.arm("settle.before")
    turn = stage.client.send(session, "two")
    stage.fall()
    turn.result(timeout=WAIT)
    stage.client.send(session, "three").result(timeout=WAIT)
    until(lambda: len(set(vendor.double.conversations) - before) == 1)
    (ref,) = set(vendor.double.conversations) - before
    assert said(vendor, ref)[::2] == ["one", "two", "three"]
    stage.client.sessions.delete(session)
    until(lambda: set(vendor.double.conversations) == before and not known(stage))
    assert vendor.double.conversations.orphans == []
