"""Streams over a real Redis: cut, lost, killed, frozen, full: readers end with the whole text."""

import os
import random
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import redis

from tests import steps
from tests.dripping import Dripping, drip, dripping
from turnmill import Client, Settings, StreamEvent, StreamKind, Turn, TurnTimeout
from turnmill.store.database import Database
from turnmill_worker.stack.valkey import EmbeddedValkey

STARTS = {StreamKind.ATTEMPT_STARTED, StreamKind.ATTEMPT_RESTARTED}
WITHIN = 30.0


def text_of(events: Sequence[StreamEvent]) -> str:
    """Return what a reader has who forgets where he is told to."""
    text = ""
    for event in events:
        text = "" if event.kind in STARTS else text + event.text
    return text


def place_of(event: StreamEvent) -> tuple[int, int]:
    fence, _, n = event.id.partition("-")
    return int(fence), int(n)


def assert_whole(turn: Turn, events: Sequence[StreamEvent]) -> None:
    """One reader had everything once, in order, without gaps, and was told of the end."""
    assert [event.kind for event in events].count(StreamKind.ENDED) == 1
    assert events[-1].kind is StreamKind.ENDED
    assert text_of(events) == turn.result(timeout=WITHIN).text
    for (fence, n), (next_fence, next_n) in pairwise(map(place_of, events)):
        assert next_n == (n + 1 if fence == next_fence else 1)
        assert next_fence >= fence


def read_in_pieces(turn: Turn, *, cuts: int, dice: random.Random) -> list[StreamEvent]:
    """Read a stream, stopping at so many places and going on behind each."""
    events: list[StreamEvent] = []
    while not (events and events[-1].kind is StreamKind.ENDED):
        after = events[-1].id if events else None
        most = dice.randrange(1, 5) if cuts > 0 else None
        cuts -= 1
        for count, event in enumerate(turn.stream(after=after, timeout=WITHIN), 1):
            events.append(event)
            if count == most:
                break
    return events


@pytest.fixture
def settings(database_url: str, broker_url: str) -> Settings:
    return Settings(database_url=database_url, broker_url=broker_url)


@pytest.fixture
def worker(settings: Settings) -> Iterator[Dripping]:
    with dripping(settings) as worker:
        yield worker


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings=settings) as client:
        yield client


def send(client: Client, pieces: int, *, stream: bool = True, **told: float) -> Turn:
    session = client.sessions.create(user_id="ada", provider="drip", model="drip")
    metadata = drip(pieces, **told)  # type: ignore[arg-type]
    return client.send(session, "hello", stream=stream, metadata=metadata)


@contextmanager
def reading(*turns: Turn) -> Iterator[list[list[StreamEvent]]]:
    """Read streams on threads meanwhile; the lists are complete at the end."""
    had: list[list[StreamEvent]] = [[] for _ in turns]

    def read(turn: Turn, into: list[StreamEvent]) -> None:
        into.extend(turn.stream(timeout=WITHIN))

    with ThreadPoolExecutor(max(1, len(turns))) as threads:
        futures = [threads.submit(read, *one) for one in zip(turns, had, strict=True)]
        yield had
        for future in futures:
            future.result(timeout=WITHIN)


def test_several_readers_that_are_cut_anywhere_have_everything_once(
    client: Client, worker: Dripping
) -> None:
    turns = [send(client, 200, pause=0.004) for _ in range(5)]
    worker.run(*turns)
    with ThreadPoolExecutor(15) as threads:
        futures = [
            (turn, threads.submit(read_in_pieces, turn, cuts=50, dice=random.Random(n)))
            for n, turn in enumerate(turns * 3)
        ]
        for turn, future in futures:
            events = future.result(timeout=WITHIN)
            assert_whole(turn, events)
            assert {event.kind for event in events} >= {StreamKind.DELTA}
            assert place_of(events[-1])[0] < 10**6  # all of it was carried


def test_a_reply_is_read_while_it_comes(client: Client, worker: Dripping) -> None:
    turn = send(client, 300, pause=0.01)
    worker.run(turn)
    events = turn.stream(timeout=WITHIN)
    while next(events).kind is not StreamKind.DELTA:
        pass
    assert turn.refresh().state == "running"
    events.close()  # type: ignore[attr-defined]
    assert turn.result(timeout=WITHIN).attempts[0].first_token_ms is not None


def test_after_a_failed_attempt_readers_forget_what_they_had(
    client: Client, worker: Dripping
) -> None:
    turn = send(client, 20, pause=0.005, fails=2, at=10)
    worker.run(turn)
    events = list(turn.stream(timeout=WITHIN))
    assert_whole(turn, events)
    assert [e.attempt for e in events if e.kind in STARTS] == [1, 2, 3]
    assert [e.kind for e in events if e.kind in STARTS][1:] == [StreamKind.ATTEMPT_RESTARTED] * 2


def test_when_a_worker_is_lost_in_the_middle_another_one_begins_again(
    client: Client, worker: Dripping, settings: Settings
) -> None:
    turn = send(client, 150, pause=0.01)
    with reading(turn) as (had,), dripping(settings) as another:
        worker.run(turn)
        events = turn.stream(timeout=WITHIN)
        while next(events).kind is not StreamKind.DELTA:
            pass
        store = Database(settings.database_url)
        steps.lose(store, turn.id)  # the first one goes on talking, and nobody hears it
        steps.due_now(store, turn.id)
        store.close()
        another.run_suspects()
        turn.result(timeout=WITHIN)
    assert_whole(turn, had)
    assert [e.kind for e in had if e.kind in STARTS] == [
        StreamKind.ATTEMPT_STARTED,
        StreamKind.ATTEMPT_RESTARTED,
    ]


def test_a_copy_that_is_lost_in_the_middle_is_written_again(
    client: Client, worker: Dripping, broker_url: str
) -> None:
    turn = send(client, 200, pause=0.005)
    with reading(turn, turn) as had, redis.Redis.from_url(broker_url) as server:
        worker.run(turn)
        events = turn.stream(timeout=WITHIN)
        first = [next(events) for _ in range(4)]
        server.flushall()
        rest = list(turn.stream(after=first[-1].id, timeout=WITHIN))
    for one in (*had, first + rest):
        assert_whole(turn, one)
        assert place_of(one[-1])[0] < 10**6


def test_when_the_copy_is_gone_the_store_tells_the_whole(
    client: Client, worker: Dripping, broker_url: str
) -> None:
    turn = send(client, 20)
    worker.run(turn)
    events = list(turn.stream(timeout=WITHIN))
    with redis.Redis.from_url(broker_url) as server:
        server.flushall()
    assert_whole(turn, again := list(turn.stream(timeout=WITHIN)))
    for place in (events[1], again[0], again[1]):
        resumed = list(turn.stream(after=place.id, timeout=WITHIN))
        before = again[: again.index(place) + 1] if place in again else [place]
        assert text_of([*before, *resumed]) == turn.result().text
        assert resumed[-1].kind is StreamKind.ENDED


def test_a_place_of_another_turn_or_of_the_future_begins_anew(
    client: Client, worker: Dripping
) -> None:
    turn = send(client, 20)
    worker.run(turn)
    turn.result(timeout=WITHIN)
    for after in ("77-3", "1-500", "999999999-1", "1000000000009-1", "0-0"):
        events = list(turn.stream(after=after, timeout=WITHIN))
        assert events[0].kind is StreamKind.ATTEMPT_RESTARTED
        assert_whole(turn, events)


def test_content_is_in_redis_for_streamed_turns_alone_and_for_a_while_only(
    database_url: str, broker_url: str
) -> None:
    brief = Settings(
        database_url=database_url, broker_url=broker_url, stream_ttl=timedelta(seconds=1)
    )
    with (
        Client(settings=brief) as client,
        dripping(brief) as worker,
        redis.Redis.from_url(broker_url) as server,
    ):
        quiet = send(client, 20, stream=False)
        worker.run(quiet)
        assert_whole(quiet, list(quiet.stream(timeout=WITHIN)))
        assert list(server.scan_iter("turnmill:stream:*")) == []
        turn = send(client, 20)
        worker.run(turn)
        list(turn.stream(timeout=WITHIN))
        key = f"turnmill:stream:{turn.id}"
        assert 0 < server.pttl(key) <= 1000
        gone = threading.Event()
        while server.exists(key):
            gone.wait(0.05)
        assert_whole(turn, list(turn.stream(timeout=WITHIN)))


@pytest.fixture
def own_valkey(home: Path) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(home, port=0) as server:
        yield server


@pytest.mark.parametrize("fault", ["killed", "frozen", "full"])
def test_a_redis_that_fails_in_the_middle_delays_no_turn_and_readers_have_the_whole(
    database_url: str, own_valkey: EmbeddedValkey, fault: str
) -> None:
    settings = Settings(database_url=database_url, stream_url=own_valkey.url)
    with Client(settings=settings) as client, dripping(settings) as worker:
        turns = [send(client, 200, pause=0.005) for _ in range(3)]
        with reading(*turns, *turns) as had:
            worker.run(*turns)
            events = turns[0].stream(timeout=WITHIN)
            [next(events) for _ in range(3)]
            break_it(own_valkey, fault)
            for turn in turns:
                turn.result(timeout=WITHIN)
        if fault == "frozen":
            os.kill(own_valkey.pid, signal.SIGCONT)
        for turn, one in zip([*turns, *turns], had, strict=True):
            assert_whole(turn, one)
        took = [turn.attempts()[0].provider_ms or 0 for turn in turns]
    assert max(took) < 5000


def break_it(server: EmbeddedValkey, fault: str) -> None:
    if fault == "full":
        with redis.Redis.from_url(server.url) as client:
            client.config_set("maxmemory", "1mb")
    else:
        os.kill(server.pid, signal.SIGKILL if fault == "killed" else signal.SIGSTOP)


def test_who_waits_no_longer_is_told_so_and_the_turn_goes_on(
    client: Client, worker: Dripping
) -> None:
    turn = send(client, 100, pause=0.01)
    with pytest.raises(TurnTimeout):
        list(turn.stream(timeout=0.1))
    worker.run(turn)
    assert_whole(turn, list(turn.stream(timeout=WITHIN)))
