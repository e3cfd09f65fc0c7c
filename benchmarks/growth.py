"""What more stored turns, longer sessions, longer queues and more processes do to a turn."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from statistics import median

import psycopg

from benchmarks import throughput
from benchmarks.ground import Ground, fill, queue_turns
from benchmarks.systems import SYSTEMS, Point
from turnmill.broker.publisher import Publisher
from turnmill.domain.content import Message
from turnmill.domain.ids import TurnId
from turnmill.domain.states import Lane, TurnState
from turnmill.store.database import Database
from turnmill.store.line.claim import claim
from turnmill.store.line.history import succeeded_history
from turnmill.store.line.settle import settle
from turnmill.store.records import Settlement
from turnmill.store.schema.migrate import upgrade
from turnmill_worker.process.dispatcher import Dispatcher
from turnmill_worker.process.feeder import Feeder

_LEASE = timedelta(minutes=5)
_GROUP = 50  #: turns in a commit; what a busy process reaches
_REPLY = "Certainly. " * 40


def stored_turns(ground: Ground, sizes: Sequence[int], *, rounds: int) -> list[dict[str, object]]:
    """Return milliseconds of claim and settle, a turn, at each number of stored turns."""
    return [
        {"stored_turns": size, **_cycle_cost(ground, sessions=size // 10, turns=10, rounds=rounds)}
        for size in sizes
    ]


def long_sessions(
    ground: Ground, lengths: Sequence[int], *, rounds: int
) -> list[dict[str, object]]:
    """Return the same at each number of messages in a session."""
    return [
        {
            "messages": length,
            **_cycle_cost(ground, sessions=_GROUP * 4, turns=length // 2, rounds=rounds),
        }
        for length in lengths
    ]


def queues(ground: Ground, *, spread: int, one: int) -> list[dict[str, object]]:
    """Return milliseconds of a tick: `spread` turns over as many sessions, `one` all in one."""
    found: list[dict[str, object]] = []
    for name, sessions, queued in (("spread", spread, 1), ("one session", 1, one)):
        with _filled(ground, sessions=sessions, turns=1) as url:
            _queue_by_sql(url, each=queued)
            found.append({"queue": name, "queued": sessions * queued, **_tick_cost(url, ground)})
    return found


def processes(
    ground: Ground, template: str, counts: Sequence[int], *, windows: throughput.Windows
) -> list[dict[str, object]]:
    """Return the interactive lane's throughput at each number of worker processes."""
    return [
        throughput.measure(
            SYSTEMS["interactive"],
            Point(in_flight=2000, latency=timedelta(seconds=1), processes=count),
            ground=ground,
            template=template,
            windows=windows,
        ).as_json()
        for count in counts
    ]


@contextmanager
def _filled(ground: Ground, *, sessions: int, turns: int) -> Iterator[str]:
    with ground.empty_database() as url:
        upgrade(url)
        fill(url, sessions=sessions, turns=turns)
        yield url


def _cycle_cost(ground: Ground, *, sessions: int, turns: int, rounds: int) -> dict[str, object]:
    with _filled(ground, sessions=sessions, turns=turns) as url:
        queued = queue_turns(url, turns=min(sessions, _GROUP * (rounds + 1)), lane=Lane.INTERACTIVE)
        ids = [turn_id for turn_id, _ in queued]
        groups = [ids[start : start + _GROUP] for start in range(0, len(ids), _GROUP)]
        database = Database(url, generic_plans=True)
        try:
            times = [_cycle(database, group) for group in groups]
        finally:
            database.close()
    parts = ([part / _GROUP for part in group] for group in zip(*times, strict=True))
    names = ("claim_ms", "history_ms", "settle_ms")
    return {name: round(median(part[1:]), 3) for name, part in zip(names, parts, strict=True)}


def _cycle(database: Database, group: Sequence[TurnId]) -> tuple[float, float, float]:
    """Claim and settle a group as a process does.

    Returns the milliseconds of claiming, of reading the histories that a claim leaves out, and of
    settling.
    """
    began = time.perf_counter()
    with database.single() as conn:
        claims = claim(conn, group, owner="bench", lease=_LEASE)
    claimed = time.perf_counter()
    for one in claims:
        if one.history is None:
            with database.single() as conn:
                succeeded_history(conn, one.session_id)
    read = time.perf_counter()
    verdicts = [
        Settlement(
            turn_id=one.turn_id,
            session_id=one.session_id,
            fence=one.fence,
            state=TurnState.SUCCEEDED,
            outcome="succeeded",
            replies=(Message.of("assistant", _REPLY),),
            input_tokens=1423,
            output_tokens=128,
        )
        for one in claims
    ]
    between = time.perf_counter()
    with database.single() as conn:
        settle(conn, verdicts)
    settled = time.perf_counter()
    return (claimed - began) * 1000, (read - claimed) * 1000, (settled - between) * 1000


def _queue_by_sql(url: str, *, each: int) -> None:
    """Queue `each` turns in every session, as `send` would leave them."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("SET session_replication_role = replica")
        conn.execute(
            "INSERT INTO turnmill.turns (id, session_id, seq, max_attempts)"
            " SELECT uuidv7(), s.id, s.next_seq + n, 5"
            " FROM turnmill.sessions s CROSS JOIN generate_series(0, %s) AS n",
            (each - 1,),
        )
        conn.execute(
            "UPDATE turnmill.sessions s"
            " SET unfinished = %s, next_seq = next_seq + %s, head_turn_id = t.id,"
            " head_lane = 'interactive', head_due_at = now()"
            " FROM turnmill.turns t WHERE t.session_id = s.id AND t.seq = s.next_seq",
            (each, each),
        )
        conn.execute("VACUUM ANALYZE")


def _tick_cost(url: str, ground: Ground) -> dict[str, object]:
    database = Database(url)
    publisher = Publisher(ground.valkey.url, hints_max=1000)
    feeder = Feeder(database, publisher, slots=1000)
    dispatcher = Dispatcher(database, lease=_LEASE, tell=feeder.feed)
    try:
        filling = _timed(dispatcher.tick)  # the queue is empty: two thousand hints are sent
        times = [_timed(dispatcher.tick) for _ in range(20)]
    finally:
        publisher.close()
        database.close()
    return {"tick_ms": round(median(times), 2), "filling_tick_ms": round(filling, 2)}


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000
