"""What doctor says of processes of the home that run and do nothing, or run no more."""

import dataclasses
import os
import socket
import time
from pathlib import Path

import pytest

from turnmill import alive
from turnmill.alive import State
from turnmill.cli.doctor.findings import Examination, Level
from turnmill.cli.doctor.parts import check_flower
from turnmill.cli.doctor.workers import check_workers
from turnmill.settings import Settings
from turnmill_worker.stack import ports


@pytest.mark.parametrize("program", ["worker", "beat"])
@pytest.mark.parametrize(("silent_for", "is_told"), [(0.0, False), (90.0, True)])
def test_a_process_that_stands_still_is_named_though_others_may_answer(
    tmp_path: Path, program: str, silent_for: float, is_told: bool
) -> None:
    alive.make_room(tmp_path, program)
    one = alive.sign(program, every=2.0, state=State.READY)
    one = dataclasses.replace(one, at=time.monotonic() - silent_for)
    alive.write(alive.place_of(tmp_path, program, one.pid), one)
    settings = Settings(database_url="sqlite://", home=tmp_path)
    found = list(check_workers(Examination(settings=settings, environ={})))
    told = [(it.code, it.what, it.fix) for it in found if it.level is Level.WRONG]
    assert (
        told
        == [
            (
                "stands_still",
                f"{program} {os.getpid()} of this machine stands still, for 90 s",
                f"kill -9 {os.getpid()}: what it had in hand is taken over; then start it anew",
            )
        ][: int(is_told)]
    )


@pytest.mark.parametrize("hangs", [False, True])
def test_a_flower_that_does_not_answer_is_not_said_to_ask_for_a_login(
    tmp_path: Path, hangs: bool
) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if hangs:
            server.listen()
        port = server.getsockname()[1] if hangs else ports.choose(0)
        examination = Examination(
            settings=Settings(home=tmp_path),
            environ={},
            flower_url=f"http://turnmill:secret@127.0.0.1:{port}",
        )
        [found] = check_flower(examination)
    assert (found.level, found.code) == (Level.NOTE, "no_answer")
    assert found.what == f"http://127.0.0.1:{port} does not answer"
    assert str(tmp_path / "logs" / "flower.log") in found.fix
