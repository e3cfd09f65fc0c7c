"""A store with something in it for each verb of a client."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psycopg

from tests import rows, stepping, steps
from tests.databases import TABLES
from turnmill import Client, TurnState
from turnmill.domain.states import ToolCallState

_SEQUENCES = """
SELECT format('%I.%I', schemaname, sequencename), last_value FROM pg_sequences
WHERE schemaname = 'turnmill' AND last_value IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Contents:
    """The rows of a database, to be written into empty ones: that is quicker than a copy of it."""

    rows: Mapping[str, bytes]
    sequences: Mapping[str, int]

    @classmethod
    def of(cls, url: str) -> Self:
        with psycopg.connect(url, autocommit=True) as conn:
            found: dict[str, bytes] = {}
            for (table,) in conn.execute(TABLES).fetchall():
                with conn.cursor().copy(f'COPY turnmill."{table}" TO STDOUT') as copy:
                    found[table] = b"".join(copy)
            filled = {table: said for table, said in found.items() if said}
            return cls(filled, dict(conn.execute(_SEQUENCES).fetchall()))

    def write_to(self, url: str) -> None:
        with psycopg.connect(url) as conn:
            conn.execute("SET LOCAL session_replication_role = replica")
            for table, said in self.rows.items():
                with conn.cursor().copy(f'COPY turnmill."{table}" FROM STDIN') as copy:
                    copy.write(said)
            for sequence, last in self.sequences.items():
                conn.execute("SELECT setval(%s::regclass, %s)", (sequence, last))


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
