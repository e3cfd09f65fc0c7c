"""Calls of tools: what callers answer, approve, reject and list."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from turnmill.domain.bounds import MOST_PARTS, REFUSAL_BYTES
from turnmill.domain.checks import check_text, storable
from turnmill.domain.errors import InvalidInput
from turnmill.domain.ids import TurnId
from turnmill.domain.json_values import json_text
from turnmill.domain.plain import text_of
from turnmill.domain.states import BETWEEN_STEPS
from turnmill.store.nouns import tool_call_moves as moves
from turnmill.store.nouns import tool_calls as rows
from turnmill.store.nouns import turns
from turnmill.store.nouns.tool_calls import ToolCallRecord
from turnmill.verbs import intake
from turnmill.verbs.refs import SessionRef, session_id
from turnmill.verbs.verb import Connection, Deed, Effect, Shown, Verb, by_turn, single, transaction

#: Of the names that vendors give to calls.
_LONGEST_ID = 1000
_SHORT = "the model is told; a sentence will do"
_OUTPUTS = 'turn.submit_tool_outputs({"call_1": "sunny", "call_2": {"price": 3}})'


def of_turn(turn_id: TurnId) -> Verb[list[ToolCallRecord]]:
    """Read all calls of the turn."""
    return single(
        lambda conn: Effect(rows.calls_of(conn, turn_id)),
        shows=by_turn("tool calls", turn_id),
    )


def effects(turn_id: TurnId) -> Verb[list[ToolCallRecord]]:
    """Read the calls by which the turn has changed the world, or may have."""
    return single(
        lambda conn: Effect(rows.effects_of(conn, turn_id)),
        shows=by_turn("tool calls", turn_id),
    )


def waiting(
    *,
    waits_for: str | None,
    session: SessionRef | None,
    user_id: str | None,
    after: object,
    limit: int,
) -> Verb[list[ToolCallRecord]]:
    """Read the calls, of a page of turns, that wait for somebody outside."""
    wanted = BETWEEN_STEPS if waits_for is None else _one_of_ours(waits_for)
    filters: dict[str, Any] = {
        "user_id": intake.name_or_none(user_id, name="user_id"),
        "waits_for": wanted,
        **intake.listing(after=after, limit=limit),
    }

    def on(conn: Connection) -> Effect[list[ToolCallRecord]]:
        target = None if session is None else session_id(conn, session)
        page = turns.find(conn, session_id=target, **filters)
        found = rows.waiting_of(conn, [one.id for one in page])
        return Effect([one for one in found if one.waits_for in wanted])

    return single(
        on, shows=Shown("tool calls", "turn", lambda calls: {one.turn_id for one in calls})
    )


def _one_of_ours(waits_for: object) -> frozenset[str]:
    if (word := text_of(waits_for)) in BETWEEN_STEPS:
        return frozenset({word})
    words = ", ".join(sorted(BETWEEN_STEPS))
    raise InvalidInput(f"waits_for must be one of {words}", hint="None for both")


def submit(
    turn_id: TurnId,
    outputs: Mapping[str, Any] | None,
    *,
    errors: Mapping[str, str] | None,
    max_text_bytes: int,
) -> Verb[None]:
    """Write what came of calls that are answered from outside."""
    said = _given(outputs, name="outputs", is_error=False, most=max_text_bytes)
    failed = _given(errors, name="errors", is_error=True, most=max_text_bytes)
    if said.keys() & failed.keys():
        raise InvalidInput("a call has both an output and an error", hint="say one of them")
    given = said | failed
    if not given:
        raise InvalidInput("there is nothing to submit", hint=_OUTPUTS)
    deed = Deed("tool.answered", turn=turn_id, figures={"calls": len(given)})
    return transaction(lambda conn: Effect(None, moves.submit(conn, turn_id, given)), does=deed)


def approve(turn_id: TurnId, call_id: str, *, by: str | None) -> Verb[None]:
    """Let a call be run."""
    return _decide(turn_id, call_id, moves.Decision(agreed=True, by=_by(by)))


def reject(turn_id: TurnId, call_id: str, why: str, *, by: str | None) -> Verb[None]:
    """Tell the model that a call may not be run."""
    words = (
        ""
        if text_of(why) == ""
        else check_text(why, name="why", max_bytes=REFUSAL_BYTES, hint=_SHORT)
    )
    return _decide(turn_id, call_id, moves.Decision(agreed=False, by=_by(by), why=words))


def _decide(turn_id: TurnId, call_id: str, decision: moves.Decision) -> Verb[None]:
    wanted = _call_id(call_id)
    deed = Deed("tool.approved" if decision.agreed else "tool.rejected", turn=turn_id)

    def on(conn: Connection) -> Effect[None]:
        return Effect(None, moves.decide(conn, turn_id, wanted, decision))

    return transaction(on, does=deed)


def _by(by: object) -> str | None:
    return intake.name_or_none(by, name="by")


def _given(said: object, *, name: str, is_error: bool, most: int) -> dict[str, moves.Given]:
    if said is None:
        return {}
    if not isinstance(said, Mapping):
        raise InvalidInput(f"{name} must be a mapping of call ids", hint=_OUTPUTS)
    try:
        pairs = [*islice(said.items(), MOST_PARTS + 1)]
    except Exception as error:  # noqa: BLE001
        # The edge to a caller's own type: whatever it does when it is read, nothing was written.
        raise InvalidInput(
            f"{name} cannot be read: {type(error).__name__}", hint="give a plain dict"
        ) from None
    if len(pairs) > MOST_PARTS:
        raise InvalidInput(f"{name} are more than {MOST_PARTS}", hint="submit them in parts")
    return {
        _call_id(call_id): moves.Given(_output(one, most=most), is_error) for call_id, one in pairs
    }


def _call_id(call_id: object) -> str:
    plain = text_of(call_id)
    if plain and len(plain) <= _LONGEST_ID and storable(plain) == plain:
        return plain
    raise InvalidInput("a call must be named by its id", hint="`turn.tool_calls()` lists them")


def _output(value: object, *, most: int) -> str:
    """Return an output as the model is given it: a text as it is, anything else as JSON.

    Blanks alone say that there is nothing to tell, which is no error.
    """
    text = str.__str__(value) if isinstance(value, str) else json_text(value, name="output")
    return check_text(text, name="output", max_bytes=most) if text.strip() else ""
