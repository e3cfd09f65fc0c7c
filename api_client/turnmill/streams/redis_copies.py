"""Reading copies of replies from a Redis: one thread and two connections for all who read."""

import logging
import os
import selectors
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from turnmill.connections.broker_causes import cause_of
from turnmill.connections.brokers import Broker
from turnmill.connections.redis_clients import redis_client
from turnmill.domain.ids import TurnId
from turnmill.domain.streaming import Place
from turnmill.forking import in_child, leave_to_parent
from turnmill.streams.entries import Entry, entry_from, key_of, opened

if TYPE_CHECKING:
    from turnmill.crypto.data_keys import DataKeys

logger = logging.getLogger("turnmill.streams")

#: An answer of the server's takes no longer, or it is given up for a while.
_TIMEOUT_SECONDS = 1.0
_AGAIN_SECONDS = 1.0
#: So long the server waits for something new in one go.
_BLOCK_SECONDS = 2.0
#: Where no connection may wake another one, a new reader waits this long for the others.
_BLOCK_SECONDS_UNWOKEN = 0.1
#: A thread without readers ends after this.
_IDLE_SECONDS = 10.0
#: With many streams one answer is to bring what has piled up in several of them.
_PAUSE_SECONDS_A_STREAM = 0.00005
#: Entries that one answer may bring, all streams together; of each at least a few.
_ENTRIES_AT_ONCE = 4000
_LEAST_ENTRIES = 8
#: Who has so many characters to take is given no more for now.
_MOST_UNTAKEN = 2**20
#: Whoever wrote a stream that is forgotten has fallen silent after this time.
_FORGOTTEN_FOR = timedelta(days=1)
_FORGOTTEN_AT_ONCE = 1000
#: One less than there can be: behind the very last a server says something else.
_LAST_OF_ALL = f"{2**64 - 1}-{2**64 - 2}"


class RedisCopies:
    """The streams in a Redis. Thread-safe, and safe to use after a fork."""

    def __init__(self, broker: Broker, keys: "DataKeys | None" = None) -> None:
        """What is encrypted opens with `keys`."""
        self._broker = broker
        self._keys = keys
        self._closed = False
        self._connected: _Connected | None = None
        self.start_afresh()
        in_child(self)

    def start_afresh(self) -> None:
        """Begin with nobody who reads, and without a thread: see `turnmill.forking`."""
        leave_to_parent(self._connected)
        self._connected = None
        self._lock = threading.Lock()
        self._readers: dict[TurnId, list[_Reader]] = {}
        self._thread: threading.Thread | None = None
        self._bell: _Bell | None = None
        self._is_up = True

    @contextmanager
    def watching(
        self, turn_id: TurnId, behind: Place, wake: Callable[[], None]
    ) -> Iterator["_Reader"]:
        """See `Copies`."""
        reader = _Reader(behind, wake, again=self._ring)
        with self._lock:
            self._readers.setdefault(turn_id, []).append(reader)
            self._start()
        self._ring()
        try:
            yield reader
        finally:
            with self._lock:
                readers = self._readers.get(turn_id, [])
                if reader in readers:
                    readers.remove(reader)
                if not readers:
                    self._readers.pop(turn_id, None)

    def forget(self, turn_ids: Collection[TurnId]) -> bool:
        """See `Copies`: behind the last entry that there can be, a Redis takes none.

        Whoever wrote there falls silent, too, as he does where a later attempt writes.
        """
        ids = list(turn_ids)
        try:
            with redis_client(self._broker, seconds=_TIMEOUT_SECONDS) as client:
                for start in range(0, len(ids), _FORGOTTEN_AT_ONCE):
                    _forget(client, ids[start : start + _FORGOTTEN_AT_ONCE])
        except Exception as error:  # noqa: BLE001
            # The edge to the Redis: the copies go there by themselves, only later.
            logger.warning("streams cannot be deleted: %s", cause_of(error))
            return False
        return True

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        thread = self._thread
        self._ring()
        if thread is not None:
            thread.join(timeout=5.0)

    def _ring(self) -> None:
        if (bell := self._bell) is not None:
            bell.ring()

    def _start(self) -> None:
        if self._thread is None and not self._closed:
            self._bell = _Bell()
            self._thread = threading.Thread(
                target=self._run, args=(self._bell,), name="turnmill-streams", daemon=True
            )
            self._thread.start()

    def _run(self, bell: "_Bell") -> None:
        idle_since = time.monotonic()
        while not self._closed:
            wanted, at_once = self._wanted()
            if wanted:
                idle_since = time.monotonic()
                self._read_once(wanted, bell, at_once=at_once)
            elif not self._stays(idle_since):
                break
            else:
                bell.wait(1.0)
        self._drop()
        bell.close()

    def _stays(self, idle_since: float) -> bool:
        """Tell whether the thread is to stay; where it is not, a later reader starts another."""
        with self._lock:
            if self._readers or time.monotonic() - idle_since < _IDLE_SECONDS:
                return True
            self._thread = self._bell = None
            return False

    def _wanted(self) -> tuple[dict[TurnId, Place], bool]:
        """Return behind which place each stream is to be read: where the last of its readers is.

        And whether to wait for nothing, since one of them does not know yet what there is.
        """
        with self._lock:
            found = {
                turn_id: [one for one in readers if one.takes_more]
                for turn_id, readers in self._readers.items()
            }
        at_once = any(one.is_behind for readers in found.values() for one in readers)
        wanted = {
            turn_id: min(one.at for one in readers) for turn_id, readers in found.items() if readers
        }
        return wanted, at_once

    def _read_once(self, wanted: dict[TurnId, Place], bell: "_Bell", *, at_once: bool) -> None:
        try:
            if self._connected is None:
                self._connected = _Connected(self._broker)
            answer = self._connected.read(wanted, bell, at_once=at_once)
            answer = {
                turn_id: [opened(one, turn_id, self._keys) for one in entries]
                for turn_id, entries in answer.items()
            }
        except Exception as error:  # noqa: BLE001
            # The edge to the Redis: whoever reads is given the rest by Postgres.
            self._drop()
            self._note(up=False, why=error)
            self._hand_out({}, wanted, _LEAST_ENTRIES)
            bell.wait(_AGAIN_SECONDS, heeds=lambda: self._closed)
            return
        self._note(up=True)
        self._hand_out(answer, wanted, _at_most(len(wanted)))
        bell.wait(_PAUSE_SECONDS_A_STREAM * len(wanted), heeds=lambda: self._closed)

    def _hand_out(
        self, answer: dict[TurnId, list[Entry]], wanted: dict[TurnId, Place], most: int
    ) -> None:
        with self._lock:
            readers = {one: list(self._readers.get(one, ())) for one in wanted}
        for turn_id, behind in wanted.items():
            entries = answer.get(turn_id, [])
            for reader in readers[turn_id]:
                if reader.at >= behind and reader.takes_more:
                    reader.put(entries, more=len(entries) >= most)

    def _note(self, *, up: bool, why: BaseException | None = None) -> None:
        """Say it once when it changes."""
        if up == self._is_up:
            return
        self._is_up = up
        if why is not None:
            logger.warning(
                "streams cannot be read: %s; readers get the rest when their turns end",
                cause_of(why),
                extra={"action": "streams_unreadable"},
            )
        else:
            logger.info("streams are read again", extra={"action": "streams_readable"})

    def _drop(self) -> None:
        connected, self._connected = self._connected, None
        if connected is not None:
            connected.close()


class _Reader:
    """One turn's stream in a Redis, as one reader reads it."""

    def __init__(
        self, behind: Place, wake: Callable[[], None], *, again: Callable[[], None]
    ) -> None:
        self.at = behind
        self.is_behind = True  #: until an answer of the server's held all that there was
        self._wake = wake
        self._again = again
        self._untaken: list[Entry] = []
        self._size = 0
        self._lock = threading.Lock()

    @property
    def takes_more(self) -> bool:
        """Tell whether there is room."""
        return self._size < _MOST_UNTAKEN

    def put(self, entries: Sequence[Entry], *, more: bool) -> None:
        """Add what was read; on the thread that reads."""
        news = [one for one in entries if one.place > self.at]
        was_behind, self.is_behind = self.is_behind, more
        if news:
            with self._lock:
                self._untaken += news
                self._size += sum(len(one.said) for one in news)
            self.at = news[-1].place
        if news or was_behind != more:
            self._wake()

    def take(self) -> Sequence[Entry]:
        """Return what has come since."""
        with self._lock:
            found, self._untaken = self._untaken, []
            was_full, self._size = self._size >= _MOST_UNTAKEN, 0
        if was_full:
            self._again()
        return found


class _Bell:
    """Wakes the thread that reads, also while it waits for its server."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        self._lock = threading.Lock()
        self._is_open = True

    def ring(self) -> None:
        """Wake it. From any thread."""
        with self._lock:
            if self._is_open:
                with suppress(BlockingIOError):  # it rings already
                    os.write(self._in, b".")

    def wait(
        self,
        seconds: float,
        *,
        beside: Any = None,
        heeds: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Wait until it rings, or `beside` can be read; True: it has rung. Rings once for many.

        What does not heed it goes on waiting.
        """
        ends = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)
            if beside is not None:
                selector.register(beside, selectors.EVENT_READ)
            while (left := ends - time.monotonic()) > 0:
                ready = {key.fd for key, _ in selector.select(left)}
                if self._out not in ready:
                    return False
                with suppress(BlockingIOError):
                    os.read(self._out, 4096)
                if heeds():
                    return True
        return False

    def close(self) -> None:
        """Give its descriptors back."""
        with self._lock:
            self._is_open = False
            os.close(self._in)
            os.close(self._out)


class _Connected:
    """A connection on which the server is waited for, and one that ends this. For one thread."""

    def __init__(self, broker: Broker) -> None:
        self._client: Any = redis_client(broker, seconds=_TIMEOUT_SECONDS)
        self._can_wake = True
        try:
            pool: Any = self._client.connection_pool
            self._waits = pool.get_connection()
            self._waits.send_command("CLIENT", "ID")
            self._id: Any = self._waits.read_response()
        except BaseException:
            self.close()
            raise

    def read(
        self, wanted: dict[TurnId, Place], bell: _Bell, *, at_once: bool
    ) -> dict[TurnId, list[Entry]]:
        """Return what comes first: entries of some of these streams, or nothing."""
        block = _BLOCK_SECONDS if self._can_wake else _BLOCK_SECONDS_UNWOKEN
        if at_once:
            block = 0.0
        turns = {key_of(one).encode(): one for one in wanted}
        self._waits.send_packed_command([_command(turns, wanted, block)])
        if block:
            socket, longest = self._waits._sock, block + _TIMEOUT_SECONDS
            if bell.wait(longest, beside=socket, heeds=lambda: self._can_wake):
                self._wake()
                bell.wait(longest, beside=socket, heeds=lambda: False)
        found: dict[TurnId, list[Entry]] = {}
        for key, entries in _streams(self._waits.read_response()):
            read = (entry_from(*entry) for entry in entries)
            found[turns[key]] = [one for one in read if one is not None]
        return found

    def close(self) -> None:
        """Close both."""
        with suppress(Exception):
            self._client.close()
            self._client.connection_pool.disconnect()

    def _wake(self) -> None:
        """Let the server answer now."""
        from redis.exceptions import ResponseError  # noqa: PLC0415

        try:
            self._client.execute_command("CLIENT", "UNBLOCK", self._id)
        except ResponseError:  # an ACL does not let us
            self._can_wake = False


def _forget(client: Any, turn_ids: Sequence[TurnId]) -> None:
    """Put an entry that nobody reads in the place of all, behind which none can be written."""
    with client.pipeline(transaction=True) as pipeline:
        for key in map(key_of, turn_ids):
            pipeline.delete(key)  # what is only trimmed stays in the server's memory
            pipeline.execute_command("XADD", key, _LAST_OF_ALL, "gone", "")
            pipeline.pexpire(key, round(_FORGOTTEN_FOR.total_seconds() * 1000))
        pipeline.execute()


def _at_most(streams: int) -> int:
    return max(_LEAST_ENTRIES, _ENTRIES_AT_ONCE // streams)


def _command(turns: dict[bytes, TurnId], wanted: dict[TurnId, Place], block: float) -> bytes:
    """Return an XREAD as it goes over the wire; redis-py takes its time with a thousand keys."""
    said = [b"XREAD", b"COUNT", b"%d" % _at_most(len(turns))]
    if block:
        said += [b"BLOCK", b"%d" % round(block * 1000)]
    said += [b"STREAMS", *turns]
    said += [b"%d-%d" % wanted[turn_id] for turn_id in turns.values()]
    return b"*%d\r\n" % len(said) + b"".join(b"$%d\r\n%b\r\n" % (len(one), one) for one in said)


def _streams(answer: Any) -> Sequence[Any]:
    """Return pairs of key and entries, in whichever protocol the server speaks."""
    if isinstance(answer, dict):
        return list(answer.items())
    return answer or ()
