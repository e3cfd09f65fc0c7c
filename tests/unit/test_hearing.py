"""What Celery tells of a worker's hints."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from celery.concurrency.base import BasePool
from celery.concurrency.thread import TaskPool as Threads
from celery.worker import state

from turnmill.domain.states import Lane
from turnmill.wire import RUN_TURN
from turnmill_worker.celery.hearing import hints_of


def worker(pool: type[BasePool], *, queues: Iterable[str] = (), connected: bool = True) -> Any:
    return SimpleNamespace(
        app=SimpleNamespace(
            amqp=SimpleNamespace(queues=SimpleNamespace(consume_from=dict.fromkeys(queues)))
        ),
        pool=object.__new__(pool),
        consumer=SimpleNamespace(connection=object() if connected else None),
    )


def test_a_worker_polls_the_lanes_whose_queues_it_consumes_and_no_others() -> None:
    bulk_only = worker(Threads, queues=["turnmill.bulk", "somebody.elses"])
    assert hints_of(bulk_only).lanes() == [Lane.BULK]


def test_a_hint_that_has_begun_to_run_was_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    hints = hints_of(worker(Threads))
    before = hints.heard(Lane.INTERACTIVE), hints.heard(Lane.BULK)
    monkeypatch.setitem(state.total_count, RUN_TURN, before[0] + 1)
    assert (hints.heard(Lane.INTERACTIVE), hints.heard(Lane.BULK)) == (before[0] + 1, before[1])


@pytest.mark.parametrize("connected", [True, False])
def test_a_worker_knows_whether_it_is_connected_to_its_broker(connected: bool) -> None:
    assert hints_of(worker(Threads, connected=connected)).connected() is connected
