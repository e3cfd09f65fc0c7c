"""A store with something in it for each verb of a client."""

import json
from pathlib import Path

from tests import rows, stepping, steps
from turnmill import Client, TurnState
from turnmill.domain.states import ToolCallState


def furnish(made: Client, jobs: Path) -> None:
    """Let there be a session with a failed turn and one that waits, and one of all else."""
    made.sessions.create(user_id="ada", key="s")
    store = made._executor.database
    for state in (TurnState.SUCCEEDED, TurnState.FAILED):
        rows.run(store, made.send("s", "hello").id, state)
    ask(made, ToolCallState.CALLER)
    ask(made, ToolCallState.APPROVAL)
    made.send("s", "waits")
    made.batches.create(jobs, name="old")
    made.events.add_reader("one")
    made.budgets.set(user_id="ada", limit_usd=1)
    made.attachments.put(b"words", user_id="ada")
    made.templates.put(
        "t", system_prompt="Help {who}.", opening=[{"role": "user", "content": "Hello?"}]
    )
    made.schedules.create("s", "hi", cron="@daily")
    made.sessions.participants.add("s", "eve")
    alone = made.sessions.create(user_id="bob")  # what can be asked again in a trial
    rows.run(store, made.send(alone, "hello").id)


def ask(client: Client, state: ToolCallState) -> None:
    """Let there be a turn that waits for somebody outside."""
    store = client._executor.database
    claim = steps.take_one(store, client.send(client.sessions.create(user_id="ada"), "hello").id)
    stepping.wait(store, stepping.call(store, claim, stepping.new_call(state=state)))


def written_to(path: Path) -> Path:
    lines = ({"user_id": f"user-{n}", "text": "hi"} for n in range(3))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path
