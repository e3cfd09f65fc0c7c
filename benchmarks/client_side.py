"""What an application pays: sends, sessions, imports, the command line."""

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median

from benchmarks.ground import Ground
from benchmarks.parts import Spread
from turnmill.settings import Settings
from turnmill.store.records import SessionRecord
from turnmill.sync.client import Client

_IMPORT = """
import time, sqlalchemy
began = time.perf_counter()
import turnmill
from turnmill import Client
print((time.perf_counter() - began) * 1000)
"""
_FEW = 200
_MANY = 10_000


def measure(ground: Ground, template: str, *, rounds: int) -> dict[str, object]:
    """Return milliseconds, and turns accepted in a second."""
    with ground.database(template) as url:
        settings = Settings(
            database_url=url, broker_url=ground.valkey.url, max_unfinished_per_user=None
        )
        with Client(settings=settings) as client:
            sent = _calls(client, rounds=rounds)
    return {
        **sent,
        "import_ms": Spread.of([_import_ms() for _ in range(rounds)]).as_json(),
        "help_ms": Spread.of([_help_ms() for _ in range(rounds)]).as_json(),
    }


def _calls(client: Client, *, rounds: int) -> dict[str, object]:
    found = [_round(client) for _ in range(rounds)]
    created, sent, many = zip(*found, strict=True)
    return {
        "create_ms": Spread.of(created).as_json(),
        "send_ms": Spread.of(sent).as_json(),
        "send_many_per_s": Spread.of(many, digits=0).as_json(),
    }


def _round(client: Client) -> tuple[float, float, float]:
    """Return the medians of creating and sending, and the rate of sending many."""
    sessions: list[SessionRecord] = []

    def create() -> None:
        sessions.append(client.sessions.create(user_id="ada", provider="mock"))

    created = median(_timed(create) for _ in range(_FEW))
    sent = median(_timed(partial(client.send, one.id, "Hello")) for one in sessions)
    batch = [(sessions[n % _FEW].id, "Hello") for n in range(_MANY)]
    return created, sent, _MANY / _timed(partial(client.send_many, batch)) * 1000


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def _import_ms() -> float:
    command = [sys.executable, "-c", _IMPORT]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    return float(done.stdout)


def _help_ms() -> float:
    command = [sys.executable, "-m", "turnmill.cli", "--help"]
    return _timed(lambda: subprocess.run(command, check=True, capture_output=True, timeout=30))
