"""What happens in `turnmill demo`: real conversations through the real queue."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from turnmill.domain.errors import TurnTimeout
from turnmill.domain.states import UNFINISHED, TurnState
from turnmill.store.records import SessionRecord
from turnmill.sync.client import Client
from turnmill.sync.turns import Turn
from turnmill_worker.stack.demo_script import (
    CONVERSATIONS,
    MODELS,
    PAID_LINES,
    PAID_PROMPT,
    Conversation,
    Line,
)

_ANSWERED_WITHIN = timedelta(minutes=5)
_LOOK_EVERY = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A conversation that took place."""

    script: Conversation
    session: SessionRecord
    turns: Sequence[tuple[Line, Turn]]


def play(client: Client, *, provider: str, model: str | None) -> list[Played]:
    """Send every line of every conversation, without waiting for any reply."""
    played = [
        Played(script=script, session=session, turns=[])
        for script in CONVERSATIONS
        for session in [_new_session(client, script, provider=provider, model=model)]
    ]
    return [_sent(client, one) for one in played]


def wait_for(client: Client, *, total: int, draw: Callable[[int, str], None]) -> None:
    """Tell `draw` how many turns are final and what the others do, until all of them are.

    Raises TurnTimeout.
    """
    deadline = time.monotonic() + _ANSWERED_WITHIN.total_seconds()
    while True:
        states = [turn.state for turn in client.turns.list(states=tuple(UNFINISHED), limit=1000)]
        told = [f"{states.count(state)} {state}" for state in TurnState if state in states]
        draw(total - len(states), ", ".join(told))
        if not states:
            return
        if time.monotonic() > deadline:
            raise TurnTimeout(f"{len(states)} turns are unfinished")
        time.sleep(_LOOK_EVERY)


def _new_session(
    client: Client, script: Conversation, *, provider: str, model: str | None
) -> SessionRecord:
    asked = "mock" if script.is_staged else provider
    return client.sessions.create(
        user_id=script.user,
        provider=asked,
        model=(None if script.is_staged else model) or MODELS.get(asked, asked),
        system_prompt=None if asked == "mock" else PAID_PROMPT,
    )


def _sent(client: Client, one: Played) -> Played:
    paid = one.session.provider != "mock"
    lines = one.script.lines[:PAID_LINES] if paid else one.script.lines
    turns = [(line, client.send(one.session, line.text, **line.options)) for line in lines]
    return Played(script=one.script, session=one.session, turns=turns)
