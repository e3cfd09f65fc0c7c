"""The opponent: plain Celery and the official SDK, each as its documentation says.

One client and one set of connections for a process, early acknowledgement, no results, and the
same rows as Turnmill's in one transaction. It keeps no order, no lease and no attempt that was cut.
"""

import os
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import openai
import openai.resources.responses  # in the parent of the pool, not in each of its children
import psycopg
from celery import Celery
from psycopg.types.json import Jsonb

QUEUE = "plain"
_MOST_CONNECTIONS = 16  #: of a process to Postgres; with more, they wait for its two cores
_HISTORY = """
SELECT m.role, m.content->0->>'text' FROM turnmill.messages m
JOIN turnmill.turns t ON t.id = m.turn_id
WHERE t.session_id = %s AND (t.state = 'succeeded' OR t.id = %s) ORDER BY t.seq, m.position
"""
_REPLY = """
INSERT INTO turnmill.messages (id, session_id, turn_id, position, role, content, final)
VALUES (uuidv7(), %s, %s, 1, 'assistant', %s, true)
"""
_TURN = """
UPDATE turnmill.turns SET state = 'succeeded', attempt = 1, input_tokens = %s, output_tokens = %s,
    finish_reason = 'stop', started_at = now(), finished_at = clock_timestamp() WHERE id = %s
"""
_ATTEMPT = """
INSERT INTO turnmill.attempts (turn_id, fence, n, kind, worker, ended_at, outcome,
    provider_request_id,
    model, input_tokens, output_tokens)
VALUES (%s, 1, 1, 'send', 'plain', clock_timestamp(), 'succeeded', %s, %s, %s, %s)
"""
_SESSION = """
UPDATE turnmill.sessions
SET unfinished = unfinished - 1, head_due_at = NULL, last_active_at = now(),
    head_turn_id = CASE WHEN unfinished > 1 THEN head_turn_id END,
    turns_succeeded = turns_succeeded + 1, input_tokens = input_tokens + %s,
    output_tokens = output_tokens + %s WHERE id = %s
"""

app = Celery("plain", broker=os.environ.get("TURNMILL_BROKER_URL"))
app.conf.update(
    task_ignore_result=True,
    task_default_queue=QUEUE,
    worker_hijack_root_logger=False,
    broker_transport_options={"socket_timeout": 30.0},
)


@app.task(name="plain.answer")  # type: ignore[untyped-decorator]
def answer(turn_id: str, session_id: str) -> None:
    """Ask the provider and store the reply."""
    with _connection() as conn:
        history = conn.execute(_HISTORY, (session_id, turn_id)).fetchall()
    said: list[Any] = [{"role": role, "content": text} for role, text in history]
    response = _client().responses.create(model="gpt-5-mini", input=said, store=False)
    usage = response.usage
    assert usage is not None
    used = (usage.input_tokens, usage.output_tokens)
    content = Jsonb([{"type": "text", "text": response.output_text}])
    with _connection() as conn, conn.transaction():
        conn.execute(_SESSION, (*used, session_id))
        conn.execute(_TURN, (*used, turn_id))
        conn.execute(_REPLY, (session_id, turn_id, content))
        conn.execute(_ATTEMPT, (turn_id, response.id, response.model, *used))


@cache
def _client() -> openai.OpenAI:
    return openai.OpenAI(max_retries=0)


@cache
def _free_connections() -> "queue.LifoQueue[psycopg.Connection | None]":
    free: queue.LifoQueue[psycopg.Connection | None] = queue.LifoQueue()
    for _ in range(_MOST_CONNECTIONS):
        free.put(None)
    return free


@contextmanager
def _connection() -> Iterator[psycopg.Connection]:
    free = _free_connections()
    conn = free.get()
    try:
        if conn is None:
            conn = psycopg.connect(os.environ["TURNMILL_DATABASE_URL"], autocommit=True)
        yield conn
    finally:
        free.put(conn)
