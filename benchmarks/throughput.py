"""Turns in a second and CPU for each, from one steady state to another."""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import psycopg

from benchmarks.ground import Ground, queue_turns
from benchmarks.parts import PARTS, Reading, Spread, pss_mb, read
from benchmarks.stand_in import StandIn, stand_in
from benchmarks.systems import Point, System, running

_FIRST_ANSWER_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """How long is measured: so many stretches of time, one after another, in one run."""

    count: int = 5
    seconds: float = 2.0
    settling: float = 4.0  #: seconds, beyond twice the latency, before the first of them

    @property
    def total(self) -> float:
        return self.count * self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """What a system did at one point; figures are of the windows."""

    system: str
    in_flight: int  #: asked for
    latency_s: float
    processes: int
    turns_per_s: Spread
    cpu_ms: Mapping[str, Spread]  #: a turn, by part, and of all
    pss_mb: float  #: of the worker processes, under load
    pss_mb_each: Sequence[float]  #: the same, at the ends of the windows
    calls_waiting: Sequence[int]  #: at the stand-in, at the same moments
    ran_dry: bool  #: the backlog ended before the last window did: the rate is a lower bound

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def measure(
    system: System, point: Point, *, ground: Ground, template: str, windows: Windows
) -> Throughput:
    """Give the system a backlog that outlasts the windows, and watch it work."""
    with (
        ground.database(template) as url,
        stand_in(ground.folder, latency=point.latency, tls=point.tls) as provider,
    ):
        queued = queue_turns(url, turns=_backlog(system, point, windows), lane=system.lane)
        if system.publish is not None:
            system.publish(queued, ground.valkey.url)
        with running(system, point, ground, database_url=url, provider=provider) as workers:
            readings, waiting, memory = _watch(workers, ground, provider, point, windows)
        done = _turns_done(url, [one.at for one in readings])
        return Throughput(
            system=system.name,
            in_flight=point.in_flight,
            latency_s=point.latency.total_seconds(),
            processes=len(workers),
            turns_per_s=_rates(readings, done),
            cpu_ms=_costs(readings, done),
            pss_mb=memory[-1],
            pss_mb_each=memory,
            calls_waiting=waiting,
            ran_dry=_left(url) <= point.in_flight,
        )


def _backlog(system: System, point: Point, windows: Windows) -> int:
    latency = point.latency.total_seconds()
    rate = min(system.expected, point.in_flight / latency if latency else system.expected)
    seconds = windows.total + windows.settling + 4 * latency
    return round(rate * seconds * 1.2) + 3 * point.in_flight


def _watch(
    workers: Sequence[int], ground: Ground, provider: StandIn, point: Point, windows: Windows
) -> tuple[list[Reading], list[int], list[float]]:
    roots = {"worker": workers, "postgres": [ground.postgres.pid], "redis": [ground.valkey.pid]}
    _await_first_answer(provider)
    time.sleep(windows.settling + 2 * point.latency.total_seconds())
    readings, waiting, memory = [read(roots)], [], []
    for _ in range(windows.count):
        time.sleep(max(0.0, readings[-1].at + windows.seconds - time.time()))
        readings.append(read(roots))
        waiting.append(provider.counts().waiting)
        memory.append(pss_mb(workers))
    return readings, waiting, memory


def _await_first_answer(provider: StandIn) -> None:
    deadline = time.monotonic() + _FIRST_ANSWER_S
    while not provider.counts().served:
        if time.monotonic() > deadline:
            raise TimeoutError("no turn was answered; see the logs of the workers")
        time.sleep(0.1)


def _turns_done(url: str, moments: Sequence[float]) -> list[int]:
    """Count the turns that ended between the moments, by the rows and not by what was asked."""
    query = (
        "SELECT count(*) FROM turnmill.turns WHERE finished_at > to_timestamp(%s)"
        " AND finished_at <= to_timestamp(%s) AND state = 'succeeded'"
    )
    with psycopg.connect(url) as conn:
        counts = []
        for window in itertools.pairwise(moments):
            row = conn.execute(query, window).fetchone()
            assert row is not None
            counts.append(row[0])
        return counts


def _left(url: str) -> int:
    with psycopg.connect(url) as conn:
        row = conn.execute(
            "SELECT count(*) FROM turnmill.turns WHERE state <> 'succeeded'"
        ).fetchone()
        assert row is not None
        return int(row[0])


def _rates(readings: Sequence[Reading], done: Sequence[int]) -> Spread:
    pairs = zip(itertools.pairwise(readings), done, strict=True)
    return Spread.of([turns / (end.at - start.at) for (start, end), turns in pairs], digits=1)


def _costs(readings: Sequence[Reading], done: Sequence[int]) -> dict[str, Spread]:
    spent: dict[str, list[float]] = {part: [] for part in (*PARTS, "all")}
    for (start, end), turns in zip(itertools.pairwise(readings), done, strict=True):
        if not turns:
            continue
        costs = [(end.cpu[part] - start.cpu[part]) * 1000 / turns for part in PARTS]
        for part, cost in zip(spent, [*costs, sum(costs)], strict=True):
            spent[part].append(cost)
    return {part: Spread.of(costs) for part, costs in spent.items() if costs}
