"""What other people's tasks can do to an event loop of ours."""

import asyncio
import logging

import pytest

from tests.hostile import SECRET
from turnmill_worker.pool import loops


async def _exit() -> None:
    raise SystemExit(SECRET)


def test_a_task_that_wants_to_exit_ends_neither_the_loop_nor_what_runs_on_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    done: list[str] = []

    async def main() -> None:
        stray = asyncio.ensure_future(_exit())
        await asyncio.wait({stray})
        done.append("went on")
        stray.exception()

    loops.run_to_end(asyncio.new_event_loop(), main())
    assert done == ["went on"]
    assert SECRET not in caplog.text


def test_what_main_raises_is_raised() -> None:
    with pytest.raises(SystemExit):
        loops.run_to_end(asyncio.new_event_loop(), _exit())


def test_a_task_that_refuses_to_be_cancelled_does_not_keep_the_loop(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loops, "_PATIENCE", loops._PATIENCE / 20)
    kept: list[asyncio.Task[None]] = []

    async def refuse() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    async def main() -> None:
        kept.append(asyncio.ensure_future(refuse()))
        await asyncio.sleep(0)

    loops.run_to_end(asyncio.new_event_loop(), main())
    assert "1 tasks do not end" in caplog.text
    kept[0]._log_destroy_pending = False  # type: ignore[attr-defined]  # it is what was meant


def test_an_error_that_nobody_handled_is_logged_by_its_type_and_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)

    async def fail() -> None:
        raise ValueError(SECRET)

    async def main() -> None:
        task = asyncio.ensure_future(fail())
        await asyncio.wait({task})

    loops.run_to_end(asyncio.new_event_loop(), main())
    assert "ValueError at " in caplog.text and "test_loops.py" in caplog.text
    assert SECRET not in caplog.text
