"""How long a message takes to be stored as a reply, when there is room for it."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from statistics import quantiles
from uuid import UUID

import psycopg

from benchmarks.ground import Ground, quiet_client
from benchmarks.stand_in import stand_in
from benchmarks.systems import Point, System, running
from turnmill.domain.ids import SessionId
from turnmill.settings import Settings
from turnmill.sync.client import Client

_WARM_S = 2.0
_FINISH_S = 30.0

Send = Callable[[SessionId], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingTimes:
    """From send to stored, on the database's clock; the provider's latency is in it."""

    system: str
    sends_per_s: float
    latency_s: float
    turns: int
    p50_ms: float
    p95_ms: float
    p99_ms: float

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def measure(
    system: System,
    point: Point,
    *,
    rate: float,
    seconds: float,
    ground: Ground,
    template: str,
) -> WaitingTimes:
    """Send at an even pace for a while, and ask the rows."""
    with (
        ground.database(template) as url,
        stand_in(ground.folder, latency=point.latency) as provider,
        running(system, point, ground, database_url=url, provider=provider),
        _client(system, url, ground) as client,
    ):
        ids = _sessions(url)
        send = _sender(system, client, ground.valkey.url)
        _answer_one(client, send, ids[0])
        _pace(send, ids[1:], rate=rate, seconds=_WARM_S)
        began = time.time()
        _pace(send, ids[round(rate * _WARM_S) + 1 :], rate=rate, seconds=seconds)
        times = _times(url, began)
    cuts = quantiles(times, n=100)
    return WaitingTimes(
        system=system.name,
        sends_per_s=rate,
        latency_s=point.latency.total_seconds(),
        turns=len(times),
        p50_ms=round(cuts[49], 1),
        p95_ms=round(cuts[94], 1),
        p99_ms=round(cuts[98], 1),
    )


def idle(ground: Ground, system: System, *, turns: int) -> list[float]:
    """Return the milliseconds from send to result of lone turns; the mock has no latency."""
    template = ground.template(sessions=1, turns=0, provider="mock")
    point = Point(in_flight=100, latency=timedelta(0), processes=1)
    with (
        ground.database(template) as url,
        running(system, point, ground, database_url=url, provider=None),
        Client(database_url=url, broker_url=ground.valkey.url) as client,
    ):
        session = client.sessions.create(user_id="ada", provider="mock", model="mock")
        for _ in range(20):
            client.send(session, "Hello").result(60)
        times = []
        for _ in range(turns):
            session = client.sessions.create(user_id="ada", provider="mock", model="mock")
            began = time.perf_counter()
            client.send(session, "Hello").result(60)
            times.append((time.perf_counter() - began) * 1000)
    return times


def _client(system: System, url: str, ground: Ground) -> Client:
    if system.publish is not None:
        return quiet_client(url)
    settings = Settings(
        database_url=url, broker_url=ground.valkey.url, max_unfinished_per_user=None
    )
    return Client(settings=settings)


def _sender(system: System, client: Client, broker_url: str) -> Send:
    def send(session: SessionId) -> None:
        turn = client.send(session, "And then? " * 10, lane=system.lane)
        if system.publish is not None:
            system.publish([(turn.id, session)], broker_url)

    return send


def _answer_one(client: Client, send: Send, session: SessionId) -> None:
    """Wait until the workers answer at all."""
    send(session)
    deadline = time.monotonic() + _FINISH_S
    while client.sessions.get(session).unfinished:
        if time.monotonic() > deadline:
            raise TimeoutError("the first turn was not answered")
        time.sleep(0.05)


def _pace(send: Send, ids: list[SessionId], *, rate: float, seconds: float) -> None:
    began = time.perf_counter()
    for number in range(round(rate * seconds)):
        time.sleep(max(0.0, began + number / rate - time.perf_counter()))
        send(ids[number])


def _sessions(url: str) -> list[SessionId]:
    with psycopg.connect(url) as conn:
        rows: list[tuple[UUID]] = conn.execute(
            "SELECT id FROM turnmill.sessions ORDER BY id"
        ).fetchall()
    return [SessionId(row[0]) for row in rows]


def _times(url: str, began: float) -> list[float]:
    """Wait for the last turn, then return the milliseconds of all that were sent since."""
    deadline = time.monotonic() + _FINISH_S
    with psycopg.connect(url, autocommit=True) as conn:
        unfinished = "SELECT 1 FROM turnmill.sessions WHERE unfinished > 0 LIMIT 1"
        while conn.execute(unfinished).fetchone() and time.monotonic() < deadline:
            time.sleep(0.2)
        rows = conn.execute(
            "SELECT extract(epoch FROM finished_at - created_at) * 1000 FROM turnmill.turns"
            " WHERE state = 'succeeded' AND created_at > to_timestamp(%s)",
            (began,),
        ).fetchall()
    return [float(row[0]) for row in rows]
