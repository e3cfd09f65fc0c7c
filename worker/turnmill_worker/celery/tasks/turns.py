"""The tasks that run turns: thin shells around use cases that know nothing of Celery."""

from collections.abc import Callable, Sequence
from typing import assert_never

from celery import Celery

from turnmill import wire
from turnmill.domain.errors import TurnDead, TurnFailed
from turnmill.domain.ids import TurnId, as_uuid
from turnmill.domain.states import TurnState
from turnmill_worker.celery.outcomes import Again, Passed, Shown, TurnTask
from turnmill_worker.celery.tasks.hinted import HINTED
from turnmill_worker.process.runtime import Runtime
from turnmill_worker.turn.bulk import Ran, run_bulk
from turnmill_worker.turn.run import Ended, NotOurs, Outcome, Outrun, run_turn

#: Failed turns, and batches, that a bulk task names.
_MOST_NAMED = 100


def register(app: Celery, runtime: Callable[[], Runtime]) -> None:
    """Add the tasks to the app. `runtime` gives what the process has been set up with."""

    @app.task(name=wire.RUN_TURN, **{**HINTED, "base": TurnTask})
    async def run_turn_task(turn_id: str) -> Shown | None:
        """Run one turn. The row says whether it may; a second delivery is harmless."""
        found = as_uuid(turn_id)  # else nobody of ours said so
        return shown(await run_turn(TurnId(found), runtime().deps)) if found else None

    @app.task(name=wire.RUN_BULK, **HINTED, resultrepr_maxsize=65_536)
    async def run_bulk_task() -> str | None:
        """Run what is due in the bulk lane; return which turns that were, for Flower to show."""
        return summary(await run_bulk(runtime().deps))

    @app.task(name=wire.RUN_QUARANTINE, **HINTED)
    async def run_quarantine_task() -> None:
        """Run what was lost before, in a process of its own."""
        await runtime().quarantine.run()


def shown(outcome: Outcome) -> Shown | None:
    """Return what Celery's tools are to show of a turn; None for one that has its reply.

    Raises TurnFailed for one that has none. Nobody acts on it: nothing is published or stored. The
    row says what comes next.
    """
    match outcome:
        case Ended(state=TurnState.SUCCEEDED):
            return None
        case Ended(due_at=due_at, error_code=code, state=state) if due_at is not None:
            return Again(code or state.value)
        case Ended(is_failure=True):
            raise failure_of(outcome)
        case Ended(state=state):
            return Passed(state.value)
        case NotOurs() | Outrun():
            return Passed("not ours")
        case _:
            assert_never(outcome)


def failure_of(ended: Ended) -> TurnFailed:
    """Return the error that Celery's tools show: a code and an id."""
    kind = TurnDead if ended.state is TurnState.DEAD else TurnFailed
    code, turn_id = ended.error_code or "", str(ended.turn_id)
    return kind(f"{code}: turn {turn_id}", turn_id=turn_id, error_code=code)


def summary(ran: Ran) -> str | None:
    """Return which turns failed, with their codes, and which ones ran; None where none did."""
    if not ran.turns:
        return None
    said = [f"{len(ran.turns)} turns"]
    if ran.failed:
        named = _named([f"{one.turn_id} {one.error_code}" for one in ran.failed])
        said.append(f"{len(ran.failed)} failed: {named}")
    if ran.batches:
        said.append(f"of batch {_named(sorted(map(str, ran.batches)))}")
    said.append(f"ran: {', '.join(map(str, ran.turns))}")
    return "; ".join(said)


def _named(names: Sequence[str]) -> str:
    left = len(names) - _MOST_NAMED
    return ", ".join([*names[:_MOST_NAMED], *([f"{left} more"] if left > 0 else [])])
