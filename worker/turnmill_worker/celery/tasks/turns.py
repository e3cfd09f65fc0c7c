"""The tasks that run turns: thin shells around use cases that know nothing of Celery."""

from collections.abc import Callable
from typing import assert_never
from uuid import UUID

from celery import Celery
from celery.exceptions import Retry

from turnmill import wire
from turnmill.domain.ids import TurnId
from turnmill_worker.process.runtime import Runtime
from turnmill_worker.turn.bulk import run_bulk
from turnmill_worker.turn.run import Ended, NotOurs, Outrun, run_turn


def register(app: Celery, runtime: Callable[[], Runtime]) -> None:
    """Add the tasks to the app. `runtime` gives what the process has been set up with."""

    @app.task(name=wire.RUN_TURN, ignore_result=True)
    async def run_turn_task(turn_id: str) -> None:
        """Run one turn. The row says whether it may; a second delivery is harmless."""
        match await run_turn(TurnId(UUID(turn_id)), runtime().deps):
            case Ended(due_at=due_at, error_code=code) if due_at is not None:
                # Shown by Flower as RETRY; nothing is published: the row says when.
                raise Retry(code, when=due_at)
            case Ended() | NotOurs() | Outrun():
                return
            case outcome:
                assert_never(outcome)

    @app.task(name=wire.RUN_BULK, ignore_result=True)
    async def run_bulk_task() -> None:
        """Run what is due in the bulk lane."""
        await run_bulk(runtime().deps)

    @app.task(name=wire.RUN_QUARANTINE, ignore_result=True)
    async def run_quarantine_task() -> None:
        """Run what was lost before, in a process of its own."""
        await runtime().quarantine.run()
