"""Ten thousand calls in flight over TLS: what each holds of memory, and that nothing is lost.

python -m benchmarks.many [--calls 10000] [--latency 30] [--minutes 2] [--lane bulk] [--out FILE]

Turns are queued for so many minutes and answered to the last one. Exits with 1 where a turn is
missing, was asked more than once, or a call in flight held 100 kB.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import psycopg
from psycopg.rows import dict_row

from benchmarks.__main__ import conditions, tell, write
from benchmarks.ground import Ground, ground, queue_turns
from benchmarks.parts import pss_mb
from benchmarks.stand_in import StandIn, stand_in
from benchmarks.systems import SYSTEMS, Point, System, running

_OUT = Path(__file__).parent / "out" / "many.json"
_MOST_KB = 100.0
_LOOK_S = 5.0
#: How long the last turns may take beyond all that was planned: machines are busy.
_PATIENCE_S = 1200.0
#: Beside what workers allow themselves.
_FILES_BESIDE = 1000

_STANDS = """
SELECT (SELECT count(*) FROM turnmill.turns WHERE state = 'succeeded'),
    (SELECT count(*) FROM turnmill.turns),
    (SELECT count(*) FROM turnmill.attempts),
    (SELECT count(*) FROM turnmill.messages WHERE final)
"""
#: Why attempts came to nothing, and how long those were at it.
_FAILED = """
SELECT coalesce(error_code, outcome, 'open') AS code, count(*) AS attempts,
    round(avg(extract(epoch FROM ended_at - started_at)), 1)::float AS seconds,
    min(error_detail) AS such_as
FROM turnmill.attempts WHERE error_code IS NOT NULL OR ended_at IS NULL
GROUP BY 1 ORDER BY 2 DESC
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen at a moment."""

    seconds: float  #: since the first call
    calls: int  #: in flight, as the provider counts them
    pss_mb: float  #: of the worker processes


@dataclass(frozen=True, slots=True, kw_only=True)
class Stands:
    """What the tables hold, beyond the history that was there."""

    succeeded: int
    turns: int
    attempts: int
    replies: int

    def __sub__(self, before: "Stands") -> "Stands":
        pairs = ((getattr(self, name), getattr(before, name)) for name in Stands.__slots__)
        return Stands(**{n: a - b for n, (a, b) in zip(Stands.__slots__, pairs, strict=True)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--latency", type=float, default=30.0, help="seconds")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--lane", choices=("interactive", "bulk"), default="bulk")
    parser.add_argument("--out", type=Path, default=_OUT)
    given = parser.parse_args()
    _allow_open_files(given.calls)
    point = Point(
        in_flight=given.calls, latency=timedelta(seconds=given.latency), processes=2, tls=True
    )
    with ground() as here:
        found = measure(here, SYSTEMS[given.lane], point, minutes=given.minutes)
    write(given.out, {"conditions": conditions(), "lane": given.lane, **found})
    print(json.dumps({name: value for name, value in found.items() if name != "looks"}))
    sys.exit(1 if found["wrong"] else 0)


def measure(here: Ground, system: System, point: Point, *, minutes: float) -> dict[str, object]:
    """Queue for so many minutes, look until all is answered, and compare with the tables."""
    rate = point.in_flight / point.latency.total_seconds()
    turns = max(2 * point.in_flight, round(rate * minutes * 60))
    template = here.template(sessions=point.in_flight * 5 // 4)
    with (
        here.database(template) as url,
        stand_in(here.folder, latency=point.latency, tls=True) as provider,
    ):
        before = _stands(url)
        queue_turns(url, turns=turns, lane=system.lane)
        with running(system, point, here, database_url=url, provider=provider) as workers:
            looks = _watch(workers, provider, turns, within=3 * minutes * 60 + _PATIENCE_S)
        stands = _stands(url) - before
        served = provider.counts().served
        failed = _failed(url)
    each = held_kb(looks)
    return {
        "asked_for": point.in_flight,
        "latency_s": point.latency.total_seconds(),
        "most_calls": max(one.calls for one in looks),
        "each_kb": each,
        "stands": asdict(stands),
        "served": served,
        "failed": failed,
        "wrong": wrongs(stands, turns=turns, served=served, each_kb=each),
        "looks": [asdict(one) for one in looks],
    }


def held_kb(looks: Sequence[Look]) -> float:
    """Return what each call held beyond the first look, when the most of them were in flight."""
    first, most = looks[0], max(looks, key=lambda one: one.calls)
    further = most.calls - first.calls
    return round((most.pss_mb - first.pss_mb) * 1000 / further, 1) if further > 0 else 0.0


def wrongs(stands: Stands, *, turns: int, served: int, each_kb: float) -> list[str]:
    """Return what is not as it has to be."""
    counted: Mapping[str, int] = {**asdict(stands), "requests": served}
    found = [f"{count} {name}, not {turns}" for name, count in counted.items() if count != turns]
    return found + ([f"{each_kb} kB a call"] if each_kb >= _MOST_KB else [])


def _watch(workers: Sequence[int], provider: StandIn, turns: int, *, within: float) -> list[Look]:
    """Look from the first calls on until all turns were answered."""
    began = time.monotonic()
    looks: list[Look] = []
    while not looks or provider.counts().served < turns:
        if time.monotonic() - began > within:
            tell("not all turns were answered in time")
            break
        counts = provider.counts()
        if counts.served or counts.waiting:
            seconds = round(time.monotonic() - began, 1)
            looks.append(Look(seconds=seconds, calls=counts.waiting, pss_mb=pss_mb(workers)))
            tell(f"{looks[-1]}, {counts.served} of {turns} answered")
        time.sleep(_LOOK_S)
    time.sleep(_LOOK_S)  # for the last verdicts
    return looks


def _stands(url: str) -> Stands:
    with psycopg.connect(url) as conn:
        row = conn.execute(_STANDS).fetchone()
        assert row is not None
        return Stands(**dict(zip(Stands.__slots__, row, strict=True)))


def _failed(url: str) -> list[dict[str, object]]:
    with psycopg.connect(url, row_factory=dict_row) as conn:
        return conn.execute(_FAILED).fetchall()


def _allow_open_files(calls: int) -> None:
    """Raise the limit that the stand-in inherits: it holds all connections in one process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = calls + _FILES_BESIDE
    if hard != resource.RLIM_INFINITY and hard < wanted:
        sys.exit(f"{hard} open files are allowed to a process (ulimit -n), and {wanted} are wanted")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(wanted, soft), hard))


if __name__ == "__main__":
    main()
