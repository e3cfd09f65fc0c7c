"""A turn of a hundred rounds writes as much in its last as in its second, and little beside it."""

from statistics import median
from typing import Any

from sqlalchemy import Connection, text

from tests import rows, stepping, steps
from turnmill.domain.content import Message, ToolOutput
from turnmill.domain.states import ToolCallState
from turnmill.store.database import Database
from turnmill.store.line.stepping import advance, begin_calls, end_calls
from turnmill.store.records import Claim
from turnmill.store.schema_name import execute
from turnmill.store.step_records import Advanced, CallEnd, ToBegin

ROUNDS = 100
#: Of each round: what the model says, and what it is told. A conversation of 200,000 tokens in all.
OUTPUT = "The weather is sunny, and it will be so tomorrow. " * 80
SAID = "x" * 4000
WRITTEN = """
SELECT wal_bytes - wal_fpi * 8192, wal_fpi FROM pg_stat_get_backend_wal(pg_backend_pid())
"""
STORED = """
SELECT sum(octet_length(m.content::text)) FROM turnmill.messages m WHERE m.turn_id = %(id)s
"""


def take_round(conn: Connection, claim: Claim) -> Claim:
    """Write a step with one call, begin it, and write its output."""
    step = stepping.a_step(claim, reply=SAID)
    (found,) = advance(conn, [step])
    assert isinstance(found, Advanced)
    claim = stepping.next_claim(claim, step, found)
    place: dict[str, Any] = {
        "turn_id": claim.turn_id,
        "fence": claim.fence,
        "position": step.first_output,
    }
    assert begin_calls(conn, [ToBegin(**place)])
    told = Message("tool", [ToolOutput(call_id="call_0", output=OUTPUT)])
    assert end_calls(conn, [CallEnd(**place, state=ToolCallState.DONE, message=told)])
    return claim


def written(conn: Connection) -> int:
    """Return the bytes that this connection has written so far, but for images of whole pages."""
    conn.execute(text("SELECT pg_stat_force_next_flush()"))
    return int(conn.execute(text(WRITTEN)).one()[0])


def test_the_last_of_a_hundred_rounds_writes_no_more_than_the_second(store: Database) -> None:
    session = rows.start(store, system_prompt="You are helpful. " * 20)
    claim = steps.take_one(store, steps.send(store, session).turn_id)
    spent = []
    with store.single() as conn:
        for _ in range(ROUNDS):
            before = written(conn)
            claim = take_round(conn, claim)
            spent.append(written(conn) - before)
        stored = execute(conn, STORED, {"id": claim.turn_id}).scalar_one()
    assert min(spent) > len(OUTPUT) // 100
    assert median(spent[-9:]) <= 1.1 * median(spent[1:10]), spent
    said = ROUNDS * (len(OUTPUT) + len(SAID))
    assert stored <= 1.3 * said
    assert steps.line(store, session).fence == ROUNDS + 1
    steps.end(store, claim)
    steps.assert_sound(store, drained=True)
