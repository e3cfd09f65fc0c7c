"""Bare asyncio: an HTTP client and two raw statements a turn. No queue, no lease, no recovery.

python -m benchmarks.bare IN_FLIGHT SHARE SHARES [own], with TURNMILL_DATABASE_URL and
OPENAI_BASE_URL; the client is aiohttp, or with `own` the one that Turnmill has.
"""

import asyncio
import json
import os
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp
import psycopg

from turnmill_worker.http1.opening import Origin
from turnmill_worker.http1.pool import Pool
from turnmill_worker.http1.reading import Bounds

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


Post = Callable[[dict[str, Any]], Awaitable[bytes]]


async def _run(turns: Iterator[UUID], threads: ThreadPoolExecutor, post: Post) -> None:
    loop = asyncio.get_running_loop()
    for turn_id in turns:
        said = await loop.run_in_executor(threads, _read, turn_id)
        payload = json.loads(await post({"model": "gpt-5-mini", "input": said, "store": False}))
        text = payload["output"][0]["content"][0]["text"]
        await loop.run_in_executor(threads, _write, turn_id, text)


@asynccontextmanager
async def _aiohttp(address: str) -> AsyncIterator[Post]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:

        async def post(body: dict[str, Any]) -> bytes:
            async with http.post(f"{address}/responses", json=body) as answer:
                return await answer.read()

        yield post


@asynccontextmanager
async def _own(address: str) -> AsyncIterator[Post]:
    parts, minute = urlsplit(address), timedelta(minutes=1)
    bounds = Bounds(body=2**24, refusal=2**16, large=2**20)
    pool = Pool(
        Origin(host=parts.hostname or "", port=parts.port or 80, tls=None),
        base=parts.path,
        headers={"Host": parts.netloc, "Content-Type": "application/json"},
        most=10_000,
        keep_alive=minute,
        connect_within=minute,
    )

    async def post(body: dict[str, Any]) -> bytes:
        sent = json.dumps(body).encode()
        answer = await pool.request("POST", "/responses", sent, within=minute, bounds=bounds)
        return answer.body

    yield post
    await pool.close()


async def main() -> None:
    in_flight, share, shares = map(int, sys.argv[1:4])
    turns = iter([row[0] for row in _execute(_QUEUED, (shares, share))])
    client = _own if "own" in sys.argv[4:] else _aiohttp
    with ThreadPoolExecutor(_THREADS) as threads:
        async with client(os.environ["OPENAI_BASE_URL"]) as post:
            await asyncio.gather(*(_run(turns, threads, post) for _ in range(in_flight)))


if __name__ == "__main__":
    asyncio.run(main())
