"""What Celery's side of a turn keeps while thousands of them wait."""

import gc
import json
import weakref
from time import monotonic
from typing import Any
from unittest.mock import MagicMock

from celery import Celery
from kombu.message import Message

from turnmill_worker.celery.outcomes import TurnRequest, TurnTask
from turnmill_worker.celery.strategy import plain
from turnmill_worker.celery.tasks.hinted import HINTED

ID = "0190c8a4-0000-7000-8000-000000000001"


class Hint(Message):
    """A message that tells when it is gone."""

    __slots__ = ("__weakref__",)


def a_hint() -> Hint:
    """Return what a broker hands over, of which JSON has made every name anew."""
    headers = {
        "id": ID,
        "task": "run",
        "argsrepr": f"({ID!r},)",
        "traceparent": "00-1",
        "retries": 7,
    }
    properties = {"correlation_id": ID, "delivery_info": {"routing_key": "turns"}, "priority": 0}
    body = json.dumps([[ID], {}, {}])
    return Hint(  # type: ignore[no-untyped-call]
        body=body,
        headers=json.loads(json.dumps(headers)),
        properties=json.loads(json.dumps(properties)),
        content_type="application/json",
        content_encoding="utf-8",
        accept={"application/json"},
    )


def an_app() -> tuple[Celery, Any]:
    app = Celery("tests", set_as_current=False)

    @app.task(name="run", **{**HINTED, "base": TurnTask})  # type: ignore[untyped-decorator]
    def run(turn_id: str) -> None:
        """Run a turn."""

    app.finalize()
    return app, app.tasks["run"]


def test_a_turn_that_waits_keeps_nothing_of_its_message() -> None:
    app, task = an_app()
    hint, acknowledged = a_hint(), []
    gone = weakref.ref(hint)

    def acknowledge(*_: Any, of: Hint = hint) -> None:
        acknowledged.append(of.headers["id"])

    request = TurnRequest(hint, on_ack=acknowledge, app=app, task=task, hostname="here")
    del hint, acknowledge
    request.on_accepted(pid=1, time_accepted=monotonic())
    gc.collect()
    assert acknowledged == [ID]
    assert gone() is None
    assert request.info()["id"] == ID  # as `inspect` shows it
    request.acknowledge()
    request.reject(requeue=True)  # nothing is left to be done, nor does it break


def test_messages_share_the_names_of_what_they_say() -> None:
    app, task = an_app()
    taken: list[Any] = []
    consumer = MagicMock(hostname="here", disable_rate_limits=True, on_task_request=taken.append)
    consumer.controller.state.revoked = ()
    consumer.event_dispatcher.enabled = False
    take = plain(task, app, consumer)
    for _ in range(2):
        take(a_hint(), None, lambda *_: None, lambda *_: None, [])
    one, other = (request.request_dict for request in taken)
    assert differing(one, other) == {"traceparent"}
    assert differing(one["properties"], other["properties"]) == set()
    assert one["traceparent"] == "00-1"  # others' headers go on
    assert one["retries"] == 0  # and what is not believed does not


def differing(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    """Return the names that are equal, and not the same object."""
    return {a for a, b in zip(one, other, strict=True) if a is not b}
