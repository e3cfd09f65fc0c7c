"""The benchmark: python -m benchmarks [--full] [--out FILE] [--only PART].

The short form takes less than six minutes, the full one about three quarters of an hour. What is
measured is written as it comes: a run that ends early leaves what it found.
"""

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from benchmarks import client_side, growth, memory, throughput, waiting_times
from benchmarks.ground import Ground, ground
from benchmarks.parts import Spread
from benchmarks.stand_in import can_encrypt, limit, stand_in
from benchmarks.systems import SYSTEMS, Point
from benchmarks.throughput import Windows

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How much is measured."""

    name: str
    windows: Windows
    points: tuple[tuple[str, int, float], ...]  #: system, in flight, latency in seconds
    paced: tuple[tuple[str, int, float, float], ...]  #: system, in flight, latency, sends/s
    paced_seconds: float
    rounds: int  #: of what a client does
    sessions: int  #: of 20 messages each, in the database of every run
    stored: tuple[int, ...]
    lengths: tuple[int, ...]
    queued: tuple[int, int]  #: over all sessions, and in one
    processes: tuple[int, ...]
    loads: tuple[int, int] = (500, 2000)  #: calls in flight, whose memory is compared
    #: So long that the machine has room: where it has none, many calls are not at the provider
    #: when they are counted, and what they hold is put down to the others.
    load_latency: timedelta = timedelta(seconds=4)


_ALL = ("interactive", "bulk", "threads", "prefork", "bare", "limit")
_IN_FLIGHT = (10, 100, 1000, 2000, 4000)
_LATENCIES = (0.0, 0.2, 1.0)

SHORT = Form(
    name="short",
    windows=Windows(count=5, seconds=2.0, settling=3.0),
    points=(
        ("interactive", 2000, 1.0),
        ("interactive-each", 2000, 1.0),
        ("limit", 2000, 1.0),
        ("bulk", 4000, 1.0),
        ("bare", 2000, 1.0),
        ("bare-own", 2000, 1.0),
        ("threads", 1000, 1.0),
        ("prefork", 32, 1.0),
    ),
    paced=(
        ("interactive", 2000, 1.0, 150.0),
        ("interactive", 2000, 0.0, 150.0),
        ("threads", 200, 1.0, 30.0),
    ),
    paced_seconds=5.0,
    rounds=5,
    sessions=10_000,
    stored=(1_000, 10_000),
    lengths=(10, 200),
    queued=(10_000, 1_000),
    processes=(),
)
FULL = Form(
    name="full",
    windows=Windows(count=5, seconds=3.0, settling=4.0),
    points=tuple(
        (system, in_flight, latency)
        for latency in _LATENCIES
        for in_flight in _IN_FLIGHT
        for system in _ALL
        if in_flight <= SYSTEMS[system].most_in_flight
    )
    + tuple(("prefork", 32, latency) for latency in _LATENCIES),
    paced=tuple(
        (*system, latency, rate)
        for latency in _LATENCIES
        for system, rate in (
            (("interactive", 2000), 30.0),
            (("interactive", 2000), 150.0),
            (("threads", 200), 30.0),
        )
    ),
    paced_seconds=10.0,
    rounds=9,
    sessions=10_000,
    stored=(1_000, 10_000, 100_000, 1_000_000),
    lengths=(10, 100, 500, 2_000),
    queued=(1_000_000, 100_000),
    processes=(1, 2, 3, 4),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="every latency and load; growth to 10⁶")
    parser.add_argument("--only", choices=("throughput", "memory", "waiting", "client", "growth"))
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/<form>.json")
    given = parser.parse_args()
    form = FULL if given.full else SHORT
    out = given.out or RESULTS / f"{form.name}.json"
    known = json.loads(out.read_text()) if given.only and out.exists() else {}
    with ground() as here:
        found = known | {"form": form.name, "conditions": conditions(), "provider": provider(here)}
        for name, part in sections(form, here):
            if given.only in (None, name):
                tell(f"== {name}")
                for found[name] in part():
                    write(out, found)
    tell(f"written: {out}")


def sections(form: Form, here: Ground) -> Iterator[tuple[str, Callable[[], Iterator[object]]]]:
    """Yield the parts; each yields what it has found so far, and at last all of it."""
    template = here.template(sessions=form.sessions)
    yield "throughput", lambda: all_points(form, here, template)
    yield "memory", lambda: all_memory(form, here, template)
    yield "waiting", lambda: all_waiting(form, here, template)
    yield "client", lambda: iter([client_side.measure(here, template, rounds=form.rounds)])
    yield "growth", lambda: all_growth(form, here, template)


def all_points(form: Form, here: Ground, template: str) -> Iterator[list[dict[str, object]]]:
    found = []
    templates = {False: template}
    for name, in_flight, latency in form.points:
        system = SYSTEMS[name]
        if system.users_each not in templates:
            templates[True] = here.template(sessions=form.sessions, users=form.sessions)
        one = throughput.measure(
            system,
            Point(in_flight=in_flight, latency=timedelta(seconds=latency)),
            ground=here,
            template=templates[system.users_each],
            windows=form.windows,
        )
        cpu = one.cpu_ms.get("all")
        tell(
            f"{name:16} {in_flight:5} in flight, {latency} s:"
            f" {one.turns_per_s.median:8.1f} turns/s,"
            f" {cpu.median if cpu else 0:7.2f} ms a turn, {one.pss_mb:6.0f} MB"
        )
        found.append(one.as_json())
        yield found


def all_memory(form: Form, here: Ground, template: str) -> Iterator[list[dict[str, object]]]:
    ways = (False, True) if can_encrypt() else (False,)
    if len(ways) == 1:
        tell("no openssl command: nothing is measured over TLS")
    found = []
    for one in memory.measure(
        SYSTEMS["interactive"],
        form.loads,
        latency=form.load_latency,
        tls=ways,
        ground=here,
        template=template,
    ):
        over = "TLS" if one.tls else "plain"
        tell(f"memory, {over}: {one.calls} calls, {one.pss_mb} MB: {one.each_kb} kB a further call")
        found.append(one.as_json())
        yield found


def all_waiting(form: Form, here: Ground, template: str) -> Iterator[dict[str, object]]:
    paced = []
    for name, in_flight, latency, rate in form.paced:
        one = waiting_times.measure(
            SYSTEMS[name],
            Point(in_flight=in_flight, latency=timedelta(seconds=latency)),
            rate=rate,
            seconds=form.paced_seconds,
            ground=here,
            template=template,
        )
        tell(
            f"{name:12} {latency} s, {rate:5.0f}/s:"
            f" p50 {one.p50_ms} p95 {one.p95_ms} p99 {one.p99_ms} ms"
        )
        paced.append(one.as_json())
    lone = sorted(waiting_times.idle(here, SYSTEMS["interactive"], turns=200))
    idle = {"p50_ms": round(lone[100], 2), "p95_ms": round(lone[190], 2), "turns": len(lone)}
    tell(f"idle turn: p50 {idle['p50_ms']} ms, p95 {idle['p95_ms']} ms")
    yield {"paced": paced, "idle": idle}


def all_growth(form: Form, here: Ground, template: str) -> Iterator[dict[str, object]]:
    spread, one = form.queued
    parts: dict[str, Callable[[], list[dict[str, object]]]] = {
        "stored": lambda: growth.stored_turns(here, form.stored, rounds=form.rounds),
        "lengths": lambda: growth.long_sessions(here, form.lengths, rounds=3),
        "queues": lambda: growth.queues(here, spread=spread, one=one),
        "processes": lambda: growth.processes(here, template, form.processes, windows=form.windows),
    }
    found: dict[str, object] = {}
    for name, part in parts.items():
        found[name] = part()
        tell(f"{name}: {json.dumps(found[name])}")
        yield found


def provider(here: Ground) -> dict[str, object]:
    """Measure the stand-in before anything that depends on it."""
    with stand_in(here.folder, latency=timedelta(0)) as one:
        rates = Spread.of([limit(one) for _ in range(5)], digits=0)
    if one.kind != "C":
        tell("no C compiler: the stand-in is a slow one, and the figures are bounded by it")
    tell(f"the stand-in ({one.kind}) answers {rates.median:.0f} requests/s")
    return {"kind": one.kind, "requests_per_s": rates.as_json()}


def conditions() -> dict[str, object]:
    """Say what the figures were measured on."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "--short", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--", "api_client", "worker")),
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "event_loop": event_loop(),
        "load_before": [round(one, 2) for one in os.getloadavg()],
    }


def event_loop() -> str:
    """Return what a program gets that does not choose, as workers do not."""
    loop = asyncio.new_event_loop()
    loop.close()
    return f"{type(loop).__module__.partition('.')[0]}: {type(loop).__name__.lstrip('_')}"


def write(out: Path, found: dict[str, Any]) -> None:
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n")


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], capture_output=True, text=True, timeout=10, check=False
    )
    return done.stdout.strip()


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
