"""Chapters of the demo on duties: money, batches, how it went, and what is known of a user."""

import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

from turnmill.domain.dollars import rounded
from turnmill.domain.errors import TurnFailed
from turnmill.show.why_view import in_a_line
from turnmill.sync.client import Client
from turnmill.sync.turns import Turn
from turnmill_worker.stack.process import wait_until
from turnmill_worker.stack.throwaway import System

_SOON = timedelta(seconds=60)
_PAYS, _ASKS = "frances", "katherine"
#: What one reply in the demo costs, roughly; two calls fit, as the most that they may cost.
_ANSWER = {"max_output_tokens": 20}
_LIMIT, _RAISED = Decimal("0.10"), Decimal(10)
_LINES = 20


def money(client: Client, _: System) -> Iterator[str]:
    """Tell of a budget that is spent, of one that is waited for, and of a limit of calls."""
    session = client.sessions.create(user_id=_PAYS, settings=_ANSWER)
    asked = client.send(session, "What do you cost?")
    asked.result(timeout=_SOON)
    yield f"a reply has cost {_dollars(asked.refresh().record.cost_usd)}, by prices of this house"
    client.budgets.set(user_id=_PAYS, limit_usd=_LIMIT, period="day", on_exceeded="wait")
    waits = _until_it_waits(client, "budget")
    left = _dollars(client.budgets.get(user_id=_PAYS).left_usd)
    yield f"of {_dollars(_LIMIT)} a day {left} are left, too little: {in_a_line(waits.why())}"
    client.budgets.set(user_id=_PAYS, limit_usd=_RAISED, period="day", on_exceeded="wait")
    waits.result(timeout=_SOON)
    (attempt,) = waits.attempts()
    yield f"the limit was raised, and it was answered: {attempt.n} attempt, none spent on waiting"
    bounded = client.send(session, "And this?", max_cost_usd="0.000001")
    try:
        bounded.result(timeout=_SOON)
    except TurnFailed as error:
        yield f"a turn that may cost nearly nothing is not sent: {error.error_code}"
    helped = client.sessions.create(user_id=_PAYS, fallback=["mock/other"])
    fails = {"mock": {"faults": ["overloaded"]}}
    said = client.send(helped, "And if there is no room?", metadata=fails).result(timeout=_SOON)
    yield f"another model has answered: {said.answered_by}, because of {said.answered_because}"


def _dollars(amount: Decimal | None) -> str:
    return "an unknown amount" if amount is None else f"${rounded(amount, digits=4):f}"


def _until_it_waits(client: Client, cause: str) -> Turn:
    """Send turns to sessions of their own until one waits for that; return it."""
    while True:
        session = client.sessions.create(user_id=_PAYS, settings=_ANSWER)
        turn = client.send(session, "And what is left?")

        def told(turn: Turn = turn) -> bool:
            record = turn.refresh().record
            return record.waits_for == cause or record.finished_at is not None

        wait_until(told, timeout=_SOON)
        if turn.refresh().record.waits_for == cause:
            return turn


def batches(client: Client, system: System) -> Iterator[str]:
    """Tell of a file of conversations, and of the file of their results."""
    file, results = system.home / "asked.jsonl", system.home / "answered.jsonl"
    lines = [{"user_id": f"u{n}", "text": f"Line {n}"} for n in range(_LINES)]
    file.write_text("".join(json.dumps(one) + "\n" for one in lines))
    estimate = client.batches.estimate(file)
    tokens = estimate.input_tokens + estimate.output_tokens
    yield f"{estimate.lines} lines would take some {tokens} tokens, before any is sent"
    batch = client.batches.create(file, name="demo")
    counts = batch.wait(timeout=_SOON)
    told = ", ".join(f"{turns} {state}" for state, turns in counts.states.items())
    yield f"done: {told}, for {_dollars(counts.cost_usd)}"
    yield f"{batch.results(results)} results, by their lines, in a file"


def figures(client: Client, _: System) -> Iterator[str]:
    """Tell what somebody thought of a reply, and what is known of a conversation."""
    session = client.sessions.create(user_id=_ASKS)
    turns = [client.send(session, f"Question {n}") for n in (1, 2, 3)]
    for turn in turns:
        turn.result(timeout=_SOON)
    turns[-1].feedback(1, "That was it.")
    known = client.analytics.session(session)
    yield f"{known.counts.asked} questions, {known.counts.replies} replies, one of them liked"
    user = client.analytics.user(_ASKS)
    yield f"all that she said and was told in thirty days: {user.messages} messages"


def privacy(client: Client, system: System) -> Iterator[str]:
    """Tell how a user takes all of it along, and goes."""
    made = client.users.export(_ASKS, system.home / f"{_ASKS}.zip")
    told = ", ".join(f"{table} {rows}" for table, rows in made.rows.items() if rows)
    yield f"all that is kept of her, in one archive: rows of {told}"
    client.users.erase(_ASKS, reason="asked for in the demo")
    wait_until(lambda: client.users.erasure(_ASKS).done, timeout=_SOON)
    check = client.users.verify_erasure(_ASKS)
    yield f"erased; looked for in {check.columns} columns, found in {len(check.remains)}"
