"""What a worker does to a store while a turn takes its steps."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import update

from tests import steps
from turnmill.domain.content import Message, Part, Text, ToolCall, ToolOutput
from turnmill.domain.ids import TurnId
from turnmill.domain.states import Effects, ToolCallState, TurnState
from turnmill.store.database import Database
from turnmill.store.line import stepping
from turnmill.store.records import Claim, Fenced, Locked, Settled
from turnmill.store.schema.step_tables import tool_calls
from turnmill.store.step_records import (
    Advanced,
    CallEnd,
    NewCall,
    Receipt,
    Step,
    ToBegin,
)


def new_call(n: int = 0, **options: Any) -> NewCall:
    """Return a call that a worker is to run, unless it is said otherwise."""
    values: dict[str, Any] = {
        "call_id": f"call_{n}",
        "tool": "weather",
        "effects": Effects.IDEMPOTENT,
        "state": ToolCallState.PENDING,
    }
    return NewCall(**values | options)


def a_step(claim: Claim, *calls: NewCall, reply: str = "Let me see.", **verdict: Any) -> Step:
    """Return the step in which a model makes these calls; one, unless it is said otherwise."""
    calls = calls or (new_call(),)
    parts: list[Part] = [Text(reply)]
    parts += [ToolCall(id=one.call_id, name=one.tool, arguments="{}") for one in calls]
    settlement = steps.verdict(
        claim,
        TurnState.RUNNING,
        outcome=stepping.CALLED,
        replies=[Message("assistant", parts)],
        position=claim.next_position,
        **verdict,
    )
    return Step(settlement=settlement, calls=calls)


def advance(store: Database, *taken: Step) -> list[Advanced | Fenced | Locked]:
    """Write steps in one group."""
    with store.single() as conn:
        return stepping.advance(conn, taken)


def call(store: Database, claim: Claim, *calls: NewCall, **verdict: Any) -> Claim:
    """Let the model call tools, and return the claim of the next step."""
    step = a_step(claim, *calls, **verdict)
    (found,) = advance(store, step)
    assert isinstance(found, Advanced)
    return next_claim(claim, step, found)


def next_claim(claim: Claim, step: Step, found: Advanced) -> Claim:
    """Return the claim of the next step."""
    return replace(
        claim,
        kind="send",
        fence=found.fence,
        step=found.step,
        n=found.n,
        attempt=found.attempt,
        messages=[*claim.messages, *step.settlement.replies],
        next_position=step.first_output + len(step.calls),
    )


def begin(store: Database, claim: Claim, *positions: int) -> set[int]:
    """Note that calls are about to be run; return the positions of those that may be."""
    with store.single() as conn:
        wanted = [
            ToBegin(turn_id=claim.turn_id, fence=claim.fence, position=one) for one in positions
        ]
        return {position for _, position in stepping.begin_calls(conn, wanted)}


def finish(
    store: Database,
    claim: Claim,
    *positions: int,
    state: ToolCallState = ToolCallState.DONE,
    said: str = "sunny",
) -> set[int]:
    """Write the outputs of calls; return the positions of those that stand."""
    ends = [
        CallEnd(
            turn_id=claim.turn_id,
            fence=claim.fence,
            position=position,
            state=state,
            message=Message(
                "tool",
                [ToolOutput(call_id="call_0", output=said, is_error=state != ToolCallState.DONE)],
            ),
        )
        for position in positions
    ]
    with store.single() as conn:
        return {position for _, position in stepping.end_calls(conn, ends)}


def run(store: Database, claim: Claim, *positions: int) -> None:
    """Begin calls and write their outputs."""
    assert begin(store, claim, *positions) == set(positions)
    assert finish(store, claim, *positions) == set(positions)


def wait(store: Database, claim: Claim) -> Settled | Fenced | None:
    """Let the turn wait for those outside."""
    verdict = steps.verdict(claim, TurnState.WAITING, outcome="not_now", input_tokens=0)
    with store.begin() as conn:
        return stepping.wait_for_calls(conn, replace(verdict, output_tokens=0))


def receipts(store: Database, turn_id: TurnId) -> list[Receipt]:
    """Return the receipts of a turn."""
    with store.single() as conn:
        return stepping.receipts_of(conn, turn_id)


def states(store: Database, turn_id: TurnId) -> list[str]:
    """Return where each call of a turn stands."""
    return [one.state.value for one in receipts(store, turn_id)]


def set_receipt(store: Database, turn_id: TurnId, **columns: Any) -> None:
    """Write columns of all receipts of a turn, past every rule."""
    with store.begin() as conn:
        conn.execute(update(tool_calls).where(tool_calls.c.turn_id == turn_id).values(**columns))


def ago(seconds: float = 1.0) -> datetime:
    """Return a moment that has passed."""
    return datetime.now(UTC) - timedelta(seconds=seconds)


def outputs(claim: Claim) -> Sequence[str]:
    """Return the outputs that the claim brings."""
    parts = [part for message in claim.messages for part in message.parts]
    return [part.output for part in parts if isinstance(part, ToolOutput)]
