"""The limit: what a turn costs when nothing is there but what it cannot do without.

python -m benchmarks.limit_program IN_FLIGHT, with TURNMILL_DATABASE_URL and OPENAI_BASE_URL

The product's own claim and settle in full groups, so that order, leases and fences hold, and an
HTTP client written for this one server. No Celery, no task for a turn, no heartbeat; no retries,
time limits, cancelling or prices; an error ends the program.
"""

import asyncio
import json
import os
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, cast
from urllib.parse import urlsplit

from pydantic_core import to_json

from turnmill.domain.content import Message
from turnmill.domain.states import Lane, TurnState
from turnmill.store.codec import StoredHistory
from turnmill.store.database import Database
from turnmill.store.line.claim import claim_due
from turnmill.store.line.settle import settle
from turnmill.store.records import Claim, Fenced, Locked, Settled, Settlement

_GROUP = 200
_LEASE = timedelta(minutes=5)
_HEAD_END = b"\r\n\r\n"
_LENGTH = b"Content-Length: "


class Line(asyncio.Protocol):
    """One connection: one call after another."""

    def __init__(self, limit: "Limit") -> None:
        self._limit = limit
        self._transport: asyncio.Transport | None = None
        self._claim: Claim | None = None
        self._whole = 0  #: bytes of the answer that comes in; 0: not known yet
        self._came = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def ask(self, claim: Claim) -> None:
        assert self._transport is not None
        self._claim = claim
        self._transport.write(self._limit.request_of(claim))

    def data_received(self, data: bytes) -> None:
        self._came += data
        if not self._whole and (end := self._came.find(_HEAD_END)) > 0:
            at = self._came.index(_LENGTH) + len(_LENGTH)
            self._whole = end + 4 + int(self._came[at : self._came.index(b"\r", at)])
        if self._whole and len(self._came) >= self._whole:
            body = self._came[self._came.index(_HEAD_END) + 4 :]
            claim, self._claim, self._came, self._whole = self._claim, None, b"", 0
            assert claim is not None
            self._limit.answered(self, settlement_of(claim, body))


class Limit:
    """All that is in flight, on one event loop; two threads wait for the store."""

    def __init__(self, url: str, address: str, *, in_flight: int) -> None:
        self._in_flight = in_flight
        self._group = min(_GROUP, max(1, in_flight // 2))
        self._database = Database(url, generic_plans=True)
        self._parts = urlsplit(address)
        path, host = f"{self._parts.path}/responses", self._parts.netloc
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            "Authorization: Bearer sk-none\r\nContent-Length: "
        ).encode()
        self._loop = asyncio.get_running_loop()
        self._claiming, self._settling = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._claims = self._settles = False  #: under way
        self._idle: deque[Line] = deque()
        self._done: list[Settlement] = []
        self.failed: asyncio.Future[None] = self._loop.create_future()

    async def open(self) -> None:
        for _ in range(self._in_flight):
            _, line = await self._loop.create_connection(
                lambda: Line(self), self._parts.hostname or "", self._parts.port or 80
            )
            self._idle.append(line)
        self._go_on()

    def request_of(self, claim: Claim) -> bytes:
        said = cast(StoredHistory, claim.history).words() or ()
        asked = [(one.role, one.text) for one in claim.messages]
        given = [{"role": role, "content": text} for role, text in (*said, *asked)]
        body = to_json({"model": claim.model, "input": given, "store": False})
        return b"%b%d\r\n\r\n%b" % (self._head, len(body), body)

    def answered(self, line: Line, settlement: Settlement) -> None:
        self._idle.append(line)
        self._done.append(settlement)
        self._go_on()

    def _go_on(self) -> None:
        if not self._claims and len(self._idle) >= self._group:
            self._claims = True
            self._in_thread(self._claiming, self._claim, self._claimed)
        if not self._settles and len(self._done) >= self._group:
            self._settles = True
            group, self._done = self._done[: self._group], self._done[self._group :]
            self._in_thread(self._settling, lambda: self._settle(group), self._settled)

    def _claim(self) -> list[Claim]:
        with self._database.single() as conn:
            return claim_due(conn, Lane.BULK, limit=self._group, owner="limit", lease=_LEASE)

    def _claimed(self, claims: list[Claim]) -> None:
        self._claims = False
        for claim in claims:
            self._idle.popleft().ask(claim)
        if claims:
            self._go_on()

    def _settle(self, group: list[Settlement]) -> list[Settled | Fenced | Locked]:
        with self._database.single() as conn:
            return settle(conn, group)

    def _settled(self, found: list[Settled | Fenced | Locked]) -> None:
        self._settles = False
        if not all(isinstance(one, Settled) for one in found):
            self.failed.set_exception(RuntimeError("a verdict was not written"))
        self._go_on()

    def _in_thread(self, thread: ThreadPoolExecutor, work: Any, then: Any) -> None:
        def run() -> None:
            try:
                found = work()
            except BaseException as error:  # noqa: BLE001
                self._loop.call_soon_threadsafe(self.failed.set_exception, error)
            else:
                self._loop.call_soon_threadsafe(then, found)

        thread.submit(run)


def settlement_of(claim: Claim, body: bytes) -> Settlement:
    answer = json.loads(body)
    usage = answer["usage"]
    return Settlement(
        turn_id=claim.turn_id,
        session_id=claim.session_id,
        fence=claim.fence,
        state=TurnState.SUCCEEDED,
        outcome="succeeded",
        replies=(Message.of("assistant", answer["output"][0]["content"][0]["text"]),),
        finish_reason="stop",
        model=answer["model"],
        input_tokens=usage["input_tokens"],
        output_tokens=usage["output_tokens"],
    )


async def main() -> None:
    url, address = os.environ["TURNMILL_DATABASE_URL"], os.environ["OPENAI_BASE_URL"]
    limit = Limit(url, address, in_flight=int(sys.argv[1]))
    await limit.open()
    await limit.failed


if __name__ == "__main__":
    asyncio.run(main())
