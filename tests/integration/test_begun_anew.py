"""A worker that gets HUP, as from `systemctl reload`, ends in good order and begins anew."""

import os
import signal

import pytest

from tests.chaos.system import Servers, System, until
from turnmill.domain.states import TurnState
from turnmill_worker.stack.celery_parts import command_of
from turnmill_worker.stack.process import Child, Program

OPTIONS = ("--concurrency=5", "--loglevel=INFO", "--without-gossip", "--without-mingle")
SAYS = "Restarting celery worker"


@pytest.mark.long
def test_a_worker_that_gets_hup_finishes_its_calls_and_goes_on_as_the_same_process() -> None:
    with Servers.start() as servers, System(servers) as system:
        system.workers["w"] = worker = Child.spawn(
            Program(
                name="w",
                argv=command_of("worker", *OPTIONS, app="turnmill_worker.app"),
                log=system.folder / "w.log",
                env=system.variables,
                tells_ready=True,
            )
        )
        system.await_ready(worker)
        with system.client() as client:
            session = client.sessions.create(user_id="ada")
            turn = client.send(session, "slow", metadata={"mock": {"latency": 1.0}})
            until(lambda: turn.refresh().state is TurnState.RUNNING)
            os.kill(worker.pid, signal.SIGHUP)
            until(lambda: system.logs().count(" ready.") == 2)
            assert turn.refresh().state is TurnState.SUCCEEDED
            assert len(turn.attempts()) == 1
            assert client.send(session, "and now?").result(timeout=30).text
        assert worker.poll() is None
        assert SAYS in system.logs()
        assert "Traceback" not in system.logs()
