"""Bare asyncio: raw aiohttp and two raw statements a turn. No queue, no lease, no recovery.

python -m benchmarks.bare IN_FLIGHT SHARE SHARES, with TURNMILL_DATABASE_URL and OPENAI_BASE_URL
"""

import asyncio
import json
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import aiohttp
import psycopg

_THREADS = 8
_QUEUED = """
SELECT id FROM (
    SELECT id, row_number() OVER (ORDER BY id) AS n FROM turnmill.turns WHERE state = 'queued'
) AS t WHERE n %% %s = %s ORDER BY id
"""
_READ = """
SELECT t.session_id, (
    SELECT json_agg(json_build_array(m.role, m.content->0->>'text') ORDER BY o.seq, m.position)
    FROM turnmill.turns o JOIN turnmill.messages m ON m.turn_id = o.id
    WHERE o.session_id = t.session_id AND (o.state = 'succeeded' OR o.id = t.id)
) FROM turnmill.turns t WHERE t.id = %s
"""
_WRITE = """
WITH turn AS (
    UPDATE turnmill.turns SET state = 'succeeded', attempt = 1, finished_at = clock_timestamp()
    WHERE id = %(turn)s RETURNING id, session_id
), reply AS (
    INSERT INTO turnmill.messages (id, session_id, turn_id, position, role, content, final)
    SELECT uuidv7(), session_id, id, 1, 'assistant', %(content)s::jsonb, true FROM turn
), attempt AS (
    INSERT INTO turnmill.attempts (turn_id, fence, n, kind, worker, ended_at, outcome)
    SELECT id, 1, 1, 'send', 'bare', clock_timestamp(), 'succeeded' FROM turn
)
UPDATE turnmill.sessions s SET unfinished = unfinished - 1, head_due_at = NULL,
    head_turn_id = CASE WHEN unfinished > 1 THEN head_turn_id END
FROM turn WHERE s.id = turn.session_id
"""

_here = threading.local()


def _execute(statement: str, parameters: Any) -> psycopg.Cursor[Any]:
    if not hasattr(_here, "conn"):
        _here.conn = psycopg.connect(os.environ["TURNMILL_DATABASE_URL"], autocommit=True)
    cursor: psycopg.Cursor[Any] = _here.conn.execute(statement, parameters)
    return cursor


def _read(turn_id: UUID) -> list[dict[str, str]]:
    row = _execute(_READ, (turn_id,)).fetchone()
    assert row is not None
    return [{"role": role, "content": text} for role, text in row[1]]


def _write(turn_id: UUID, text: str) -> None:
    content = json.dumps([{"type": "text", "text": text}])
    _execute(_WRITE, {"turn": turn_id, "content": content})


async def _run(turns: Iterator[UUID], threads: ThreadPoolExecutor, http: Any) -> None:
    loop = asyncio.get_running_loop()
    address = os.environ["OPENAI_BASE_URL"] + "/responses"
    for turn_id in turns:
        said = await loop.run_in_executor(threads, _read, turn_id)
        body = {"model": "gpt-5-mini", "input": said, "store": False}
        async with http.post(address, json=body) as answer:
            payload = json.loads(await answer.read())
        text = payload["output"][0]["content"][0]["text"]
        await loop.run_in_executor(threads, _write, turn_id, text)


async def main() -> None:
    in_flight, share, shares = map(int, sys.argv[1:])
    turns = iter([row[0] for row in _execute(_QUEUED, (shares, share))])
    connector = aiohttp.TCPConnector(limit=0)
    with ThreadPoolExecutor(_THREADS) as threads:
        async with aiohttp.ClientSession(connector=connector) as http:
            await asyncio.gather(*(_run(turns, threads, http) for _ in range(in_flight)))


if __name__ == "__main__":
    asyncio.run(main())
