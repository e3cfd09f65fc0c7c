"""A worker that gets USR1 says where its threads are, and shows no value of theirs."""

import os
import signal

import pytest

from tests.chaos.system import Servers, System, until
from turnmill_worker.stack.celery_parts import command_of
from turnmill_worker.stack.process import Child, Program

OPTIONS = ("--concurrency=5", "--loglevel=INFO", "--without-gossip", "--without-mingle")


@pytest.mark.long
def test_a_worker_that_gets_usr1_shows_where_it_is_without_what_it_works_on() -> None:
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
        os.kill(worker.pid, signal.SIGUSR1)
        until(lambda: "most recent call first" in system.logs())
        with system.client() as client:
            session = client.sessions.create(user_id="ada")
            assert client.send(session, "and now?").result(timeout=30).text
        assert "LOCAL VARIABLES" not in system.logs()
