"""One side of a pair: measures the version it is started in, a round for each line on stdin.

Started by `benchmarks.pair` with the interpreter, the folder and the PYTHONPATH of the version that
is measured. What it imports is that version's own, servers and tables included, so that the two
sides need not agree on a schema.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from statistics import median

from benchmarks.ground import Ground, ground
from benchmarks.systems import SYSTEMS, Point, running
from benchmarks.throughput import Windows, measure
from turnmill import Client
from turnmill.settings import Settings

_WINDOWS = Windows(count=2, seconds=1.5, settling=1.5)
_LOAD = Point(in_flight=800, latency=timedelta(milliseconds=200))
_LONE = Point(in_flight=100, latency=timedelta(0), processes=1)
_WARM, _TURNS, _SENDS, _STARTS = 20, 100, 300, 3
_PATIENCE_S = 60.0
_IMPORT = ("-c", "from turnmill import Client")
_HELP = ("-m", "turnmill.cli", "--help")


def main() -> None:
    with ground() as here:
        loaded = here.template(sessions=2000)
        empty = here.template(sessions=1, turns=0, provider="mock")
        print("ready", flush=True)
        for _ in sys.stdin:
            found = {**lanes(here, loaded), **client(here, empty), **starts()}
            print(json.dumps(found), flush=True)


def lanes(here: Ground, template: str) -> dict[str, float]:
    found = {}
    for lane in ("interactive", "bulk"):
        one = measure(SYSTEMS[lane], _LOAD, ground=here, template=template, windows=_WINDOWS)
        found[f"{lane}: CPU ms a turn"] = one.cpu_ms["all"].median
        found[f"{lane}: memory MB (PSS)"] = one.pss_mb
    return found


def client(here: Ground, template: str) -> dict[str, float]:
    with here.database(template) as url:
        settings = Settings(
            database_url=url, broker_url=here.valkey.url, max_unfinished_per_user=None
        )
        with Client(settings=settings) as one:
            with running(SYSTEMS["interactive"], _LONE, here, database_url=url, provider=None):
                lone = [_timed(_lone_turn(one)) for _ in range(_WARM + _TURNS)][_WARM:]
            session = one.sessions.create(user_id="bob", provider="mock", model="mock").id
            began = time.process_time()
            sends = [_timed(lambda: one.send(session, "Hello")) for _ in range(_SENDS)]
            spent = (time.process_time() - began) * 1000 / _SENDS
    return {
        "idle turn, p50 ms": median(lone),
        "send, p50 ms": median(sends),
        "send: CPU ms": spent,
    }


def _lone_turn(one: Client) -> Callable[[], object]:
    session = one.sessions.create(user_id="ada", provider="mock", model="mock")
    return lambda: one.send(session, "Hello").result(_PATIENCE_S)


def starts() -> dict[str, float]:
    return {
        "import turnmill: CPU ms": median(_cpu_ms(_IMPORT) for _ in range(_STARTS)),
        "turnmill --help: CPU ms": median(_cpu_ms(_HELP) for _ in range(_STARTS)),
    }


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def _cpu_ms(arguments: tuple[str, ...]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=_PATIENCE_S)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) * 1000


if __name__ == "__main__":
    main()
