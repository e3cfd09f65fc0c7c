"""The systems that are compared, and how each of them is started."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from benchmarks import plain_celery
from benchmarks.ground import Ground
from benchmarks.stand_in import StandIn
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import Lane
from turnmill_worker.stack.celery_parts import command_of
from turnmill_worker.stack.process import Child, Program

Queued = Sequence[tuple[TurnId, SessionId]]

_PROCESSES = 2
_NOWHERE = "http://127.0.0.1:9/v1"
_QUIET = ("-l", "WARNING", "--without-gossip", "--without-mingle")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What is asked of a system."""

    in_flight: int
    latency: timedelta
    processes: int = _PROCESSES
    tls: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One way to get turns answered."""

    name: str
    title: str
    lane: Lane
    most_in_flight: int  #: more is beyond its means on a machine of this size
    expected: float  #: turns/s; sizes the backlog, and nothing else
    commands: Callable[[Point], list[tuple[str, ...]]]
    publish: Callable[[Queued, str], None] | None = None  #: None: its dispatcher finds the rows
    users_each: bool = False  #: each session has a user of its own


def _celery(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "celery", *arguments)


def _turnmill(slots: Callable[[int], int]) -> Callable[[Point], list[tuple[str, ...]]]:
    def commands(point: Point) -> list[tuple[str, ...]]:
        worker = command_of("worker", *_QUIET, app="turnmill_worker.app")
        each = slots(-(-point.in_flight // point.processes))
        return [(*worker, "-c", str(each), "-n", f"w{n}@bench") for n in range(point.processes)]

    return commands


def _bulk_slots(wanted: int) -> int:
    """Return how many slots leave bulk `wanted` of them beside the reserve for interactive."""
    return max(wanted + 16, round(wanted / 0.9))


def _plain(pool: str, *options: str) -> Callable[[Point], list[tuple[str, ...]]]:
    def commands(point: Point) -> list[tuple[str, ...]]:
        worker = ("-A", "benchmarks.plain_celery", "worker", *_QUIET, "--pool", pool, *options)
        return [_celery(*worker, "-c", str(point.in_flight))]

    return commands


def _bare(*client: str) -> Callable[[Point], list[tuple[str, ...]]]:
    def commands(point: Point) -> list[tuple[str, ...]]:
        shares = range(point.processes)
        command = (sys.executable, "-m", "benchmarks.bare", _each(point))
        return [(*command, str(share), str(point.processes), *client) for share in shares]

    return commands


def _limit(point: Point) -> list[tuple[str, ...]]:
    return [(sys.executable, "-m", "benchmarks.limit_program", _each(point))] * point.processes


def _each(point: Point) -> str:
    return str(max(1, point.in_flight // point.processes))


def publish_plain(queued: Queued, broker_url: str) -> None:
    """Send one Celery message for each turn."""
    with plain_celery.app.connection_for_write(broker_url) as connection:
        producer = plain_celery.app.amqp.Producer(connection)
        for turn_id, session_id in queued:
            plain_celery.answer.apply_async((str(turn_id), str(session_id)), producer=producer)


_INTERACTIVE = System(
    name="interactive",
    title="Turnmill, interactive lane",
    lane=Lane.INTERACTIVE,
    most_in_flight=4000,
    expected=1500,
    commands=_turnmill(lambda wanted: wanted),
)

SYSTEMS = {
    one.name: one
    for one in (
        _INTERACTIVE,
        replace(
            _INTERACTIVE,
            name="interactive-each",
            title="Turnmill, interactive, a user each",
            users_each=True,
        ),
        System(
            name="bulk",
            title="Turnmill, bulk lane",
            lane=Lane.BULK,
            most_in_flight=4000,
            expected=2400,
            commands=_turnmill(_bulk_slots),
        ),
        System(
            name="threads",
            title="plain Celery, threads",
            lane=Lane.INTERACTIVE,
            most_in_flight=1000,
            expected=150,
            commands=_plain("threads", "--prefetch-multiplier", "1"),
            publish=publish_plain,
        ),
        System(
            name="prefork",
            title="plain Celery, prefork",
            lane=Lane.INTERACTIVE,
            most_in_flight=64,
            expected=150,
            commands=_plain("prefork", "--prefetch-multiplier", "4", "-O", "fair"),
            publish=publish_plain,
        ),
        System(
            name="bare",
            title="bare asyncio: no queue",
            lane=Lane.INTERACTIVE,
            most_in_flight=4000,
            expected=1500,
            commands=_bare(),
        ),
        System(
            name="bare-own",
            title="bare asyncio, our HTTP client",
            lane=Lane.INTERACTIVE,
            most_in_flight=4000,
            expected=1800,
            commands=_bare("own"),
        ),
        System(
            name="limit",
            title="the limit: claim, ask, settle",
            lane=Lane.BULK,
            most_in_flight=4000,
            expected=4000,
            commands=_limit,
        ),
    )
}


@contextmanager
def running(
    system: System, point: Point, ground: Ground, *, database_url: str, provider: StandIn | None
) -> Iterator[list[int]]:
    """Run the system's processes; yield their numbers. They are killed, not asked.

    Without a provider their calls lead nowhere.
    """
    env = {
        **os.environ,
        "TURNMILL_DATABASE_URL": database_url,
        "TURNMILL_BROKER_URL": ground.valkey.url,
        "OPENAI_BASE_URL": _NOWHERE if provider is None else provider.url,
        "OPENAI_API_KEY": "sk-none",
        **({} if provider is None else provider.trust),
    }
    children = []
    try:
        for number, command in enumerate(system.commands(point)):
            log = ground.folder / f"{system.name}-{number}.log"
            program = Program(name=system.name, argv=command, log=log, env=env, cwd=_root())
            children.append(Child.spawn(program))
        yield [child.pid for child in children]
    finally:
        for child in children:
            child.kill()


def _root() -> Path:
    return Path(__file__).parent.parent
