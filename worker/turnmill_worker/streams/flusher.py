"""The flusher: one thread and one connection that bring to a Redis what a process publishes.

Nobody waits for it. What it cannot bring it keeps, within bounds, for when it can again; whatever
is left out in the end readers are told by the store.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from turnmill.connections.broker_causes import cause_of
from turnmill.connections.brokers import Broker
from turnmill.connections.redis_clients import redis_client
from turnmill.crypto.data_keys import DataKeys
from turnmill.store.records import Claim
from turnmill_worker.streams.publishing import Publishing, is_first
from turnmill_worker.streams.writing import Writing

if TYPE_CHECKING:
    from redis import Redis

logger = logging.getLogger("turnmill.streams")

#: Between two flushes: what comes meanwhile goes together. The more streams, the longer.
_LEAST_PAUSE_SECONDS = 0.03
_PAUSE_SECONDS_A_STREAM = 0.0004
_MOST_PAUSE_SECONDS = 0.4
_TIMEOUT_SECONDS = 0.5
#: After a failure nothing is tried for so long, and for twice as long after each other one.
_BREAK_SECONDS = 0.5
_LONGEST_BREAK_SECONDS = 4.0
#: The end of a turn is brought within this time, or not at all.
_ENDS_WITHIN_SECONDS = 5.0
#: All streams of the process together, in characters.
_MOST_KEPT = 64 * 2**20
_COMMANDS_AT_ONCE = 500


class RedisCarrier:
    """Carries streams by a Redis."""

    def __init__(
        self, broker: Broker, *, keep_seconds: float, keys: DataKeys | None = None
    ) -> None:
        self._broker = broker
        self._keys = keys
        self._keep_seconds = keep_seconds
        self._news: deque[Publishing] = deque()
        self._rings = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._open: dict[Publishing, Writing] = {}
        self._behind: dict[Publishing, Writing] = {}
        self._client: Redis | None = None
        self._connection: Any = None
        self._failures = 0
        self._broken_until = 0.0
        self._is_up = True

    def begin(self, claim: Claim, *, first: bool | None = None) -> Publishing | None:
        """See `Carrier`. On the loop's thread."""
        if not claim.stream or self._closed.is_set():
            return None
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="turnmill-flusher", daemon=True)
            self._thread.start()
        return Publishing(claim, self._note, first=is_first(claim) if first is None else first)

    def close(self) -> None:
        """Bring what is left, in one try, and end."""
        self._closed.set()
        self._rings.set()
        if self._thread is not None:
            self._thread.join(timeout=3 * _TIMEOUT_SECONDS)

    def _note(self, publishing: Publishing) -> None:
        if not publishing.is_noted:
            publishing.is_noted = True
            self._news.append(publishing)
            if not self._rings.is_set():
                self._rings.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            self._rings.wait(timeout=1.0 if self._behind else None)
            self._rings.clear()
            count = self._flush()
            pause = min(_PAUSE_SECONDS_A_STREAM * count, _MOST_PAUSE_SECONDS)
            self._closed.wait(max(pause, _LEAST_PAUSE_SECONDS))
        self._flush()
        self._drop()

    def _flush(self) -> int:
        """Bring what came since the last time; return of how many streams."""
        try:
            due = self._due()
            if due and time.monotonic() >= self._broken_until:
                self._bring(due)
            self._forget(due)
        except Exception as error:  # noqa: BLE001
            # The edge of this thread: streams are the least that a worker has to do.
            logger.error("a flush failed: %s", type(error).__name__)
            return len(self._open)
        return len(due)

    def _due(self) -> list[Writing]:
        due = dict(self._behind)
        for _ in range(len(self._news)):
            publishing = self._news.popleft()
            publishing.is_noted = False  # before it is drained: what comes from here on rings again
            writing = self._open.get(publishing)
            if writing is None:
                writing = Writing(publishing, keep_seconds=self._keep_seconds, keys=self._keys)
                self._open[publishing] = writing
            writing.drain()
            due[publishing] = writing
        self._stay_in_bounds()
        return list(due.values())

    def _stay_in_bounds(self) -> None:
        """Leave out the longest ones when all together are too long."""
        kept = sum(one.size for one in self._open)
        for one in sorted(self._open, key=lambda one: -one.size) if kept > _MOST_KEPT else ():
            if kept <= _MOST_KEPT:
                return
            kept -= one.size
            one.leave_out()

    def _forget(self, due: Collection[Writing]) -> None:
        too_late = time.monotonic() - _ENDS_WITHIN_SECONDS
        for writing in due:
            gives_up = writing.ended_at is not None and writing.ended_at < too_late
            if writing.is_done or gives_up:
                self._open.pop(writing.publishing, None)
                self._behind.pop(writing.publishing, None)
            elif writing.is_behind:
                self._behind[writing.publishing] = writing
            else:
                self._behind.pop(writing.publishing, None)

    def _bring(self, due: Sequence[Writing]) -> None:
        try:
            self._ask([one for one in due if one.asks])
            for some in _in_chunks([(one, one.commands()) for one in due if one.is_behind]):
                self._write(some)
        except Exception as error:  # noqa: BLE001
            # The edge to the Redis: whatever went wrong there must not reach a turn.
            for one in self._open.values():
                one.doubt()
            self._fail(error)
            return
        self._failures = 0
        if not self._is_up:
            self._is_up = True
            logger.info("streams are carried again", extra={"action": "streams_carried"})

    def _ask(self, doubtful: Sequence[Writing]) -> None:
        if doubtful:
            answers = self._answers([one.question() for one in doubtful])
            for one, answer in zip(doubtful, answers, strict=True):
                if isinstance(answer, BaseException):
                    raise answer
                one.answered(answer)

    def _write(self, some: Sequence[tuple[Writing, list[bytes]]]) -> None:
        answers = self._answers([command for _, commands in some for command in commands])
        trouble: BaseException | None = None
        start = 0
        for writing, commands in some:
            found = writing.took(answers[start : start + len(commands)])
            trouble = trouble or found
            start += len(commands)
        if trouble is not None:
            raise trouble

    def _answers(self, commands: Sequence[bytes]) -> list[Any]:
        """Return what the server says to each command; raises where it says nothing."""
        from redis.exceptions import ResponseError  # noqa: PLC0415

        connection = self._connected()
        connection.send_packed_command([b"".join(commands)], check_health=False)
        answers: list[Any] = []
        for _ in commands:
            try:
                answers.append(connection.read_response())
            except ResponseError as error:
                answers.append(error)
        return answers

    def _connected(self) -> Any:
        if self._connection is None:
            self._client = redis_client(self._broker, seconds=_TIMEOUT_SECONDS)
            self._connection = self._client.connection_pool.get_connection()
        return self._connection

    def _fail(self, error: Exception) -> None:
        self._drop()
        pause = min(_BREAK_SECONDS * 2**self._failures, _LONGEST_BREAK_SECONDS)
        self._failures += 1
        self._broken_until = time.monotonic() + pause
        if self._is_up:
            self._is_up = False
            logger.warning(
                "streams cannot be carried: %s; readers get the rest when their turns end",
                cause_of(error),
                extra={"action": "streams_not_carried"},
            )

    def _drop(self) -> None:
        client, self._client, self._connection = self._client, None, None
        if client is not None:
            client.connection_pool.disconnect()
            client.close()


def _in_chunks(
    work: Sequence[tuple[Writing, list[bytes]]],
) -> Sequence[Sequence[tuple[Writing, list[bytes]]]]:
    """Return the work in parts: answers are read before those of the next part are asked for."""
    chunks: list[list[tuple[Writing, list[bytes]]]] = [[]]
    count = 0
    for one in work:
        if count >= _COMMANDS_AT_ONCE:
            chunks.append([])
            count = 0
        chunks[-1].append(one)
        count += len(one[1])
    return [chunk for chunk in chunks if chunk]
