"""What can be said to a worker by whoever can log in to Postgres, or write to the broker."""

import base64
import json
import re
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from celery import Celery

from tests import workers
from tests.conftest import fresh_database
from tests.workers import Worker
from turnmill import Client, wire
from turnmill.domain.states import FINAL, Lane, TurnState
from turnmill_worker.stack.postgres import EmbeddedPostgres
from turnmill_worker.stack.process import wait_until
from turnmill_worker.stack.valkey import EmbeddedValkey

SOON = timedelta(seconds=30)
FORGED = "2026-01-01 00:00:00,000 CRITICAL turnmill.app] forged"
NAME = "worker@hostile"
#: Of hints that are forgotten as they are taken, and of messages that are kept until then.
MAIN = (wire.LANE_QUEUES[Lane.INTERACTIVE], wire.UPKEEP_QUEUE)
QUEUES = [*wire.LANE_QUEUES.values(), wire.UPKEEP_QUEUE, wire.DEFAULT_QUEUE]
#: How a line of a log begins; what Celery says before its log is set up, and a banner, are ours.
OURS = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ [\w.]+\] ")


@dataclass(frozen=True)
class Stage:
    """A worker of the production profile; each turn takes a second."""

    client: Client
    database_url: str
    broker: redis.Redis
    app: Celery
    process: Worker
    log: Path

    def answers(self) -> bool:
        """Tell whether a turn that is sent now is answered."""
        session = self.client.sessions.create(user_id="ada", provider="mock", model="m")
        return bool(self.client.send(session, "Hello").result(timeout=SOON).text)

    def logged(self) -> str:
        return self.log.read_text()


@pytest.fixture(scope="module")
def stage(
    postgres_server: EmbeddedPostgres,
    migrated_template: str,
    valkey_server: EmbeddedValkey,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    folder, broker_url = tmp_path_factory.mktemp("hostile"), valkey_server.url
    with (
        fresh_database(postgres_server, migrated_template) as database_url,
        redis.Redis.from_url(broker_url) as broker,
        Client(database_url=database_url, broker_url=broker_url) as client,
        Celery(broker=broker_url) as app,
    ):
        broker.flushall()
        log = folder / "worker.log"
        with running_worker(database_url, broker_url, log) as worker:
            yield Stage(client, database_url, broker, app, worker, log)


@contextmanager
def running_worker(database_url: str, broker_url: str, log: Path) -> Iterator[Worker]:
    servers = {"TURNMILL_DATABASE_URL": database_url, "TURNMILL_BROKER_URL": broker_url}
    careful = {
        "TURNMILL_PROFILE": "production",
        "TURNMILL_ENCRYPTION": "off",
        "TURNMILL_ALLOW_MOCK": "yes",
        "TURNMILL_GRACE": "1",
    }
    variables = servers | careful | {"TURNMILL_MOCK_LATENCY": "1"}
    options = ("--concurrency=50", "--loglevel=INFO", f"--hostname={NAME}")
    worker = workers.start(log.parent, variables, *options)
    try:
        assert wait_until(lambda: " ready." in log.read_text(), timeout=SOON * 2), log.read_text()
        yield worker
    finally:
        workers.stop(worker)


def message(task: Any = wire.RUN_TURN, args: Any = (), **headers: Any) -> dict[str, Any]:
    """Return what kombu puts into Redis for one of Celery's messages."""
    body = json.dumps([args, {}, {"callbacks": None, "errbacks": None, "chain": None}])
    task_id = str(uuid.uuid4())
    return {
        "body": base64.b64encode(body.encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": task, "id": task_id, **headers},
        "properties": {
            "body_encoding": "base64",
            "delivery_mode": 2,
            "delivery_tag": str(uuid.uuid4()),
            "delivery_info": {"exchange": "", "routing_key": ""},
            "priority": 0,
        },
    }


def odd_messages() -> Iterator[bytes]:
    """Yield what no client of ours sends: other types everywhere, and lines that look like ours."""
    odd: list[Any] = [None, True, 0, -1.5, 1e400, "", f"\n{FORGED}\n", [], [[]], {}, {"a": 1}]
    yield from (b"", b"\x00", b"\xff\xfe", b"{", b"[" * 100_000, b"NaN", b'"\\ud800"')
    yield from (json.dumps(one).encode() for one in odd)
    whole = message()
    for part in whole:
        yield json.dumps({name: value for name, value in whole.items() if name != part}).encode()
        yield from (json.dumps(whole | {part: one}).encode() for one in odd)
    for part in ("properties", "headers"):
        for name in whole[part]:
            for one in odd:
                yield json.dumps(whole | {part: whole[part] | {name: one}}).encode()
    far = (datetime.now(UTC) + timedelta(days=9)).isoformat()
    headers: dict[str, list[Any]] = {
        "eta": [*odd, far, "9999-12-31T23:59:59"],
        "expires": [*odd, far],
        "timelimit": [*odd, [0.001, 0.001], ["a", "b"]],
        "retries": odd,
        "shadow": odd,
        "group": odd,
        "stamps": odd,
        "stamped_headers": odd,
        "argsrepr": odd,
        "origin": odd,
        "root_id": odd,
        "replaced_task_nesting": odd,
    }
    for name, values in headers.items():
        yield from (json.dumps(message(**{name: one})).encode() for one in values)
    tasks = [wire.RUN_BULK, wire.RUN_QUARANTINE, wire.PURGE, wire.ROLL_UP_USAGE, wire.ARCHIVE_IDLE]
    built_in = [f"celery.{one}" for one in ("chord_unlock", "map", "starmap", "chunks", "group")]
    for task in (wire.RUN_TURN, *tasks, wire.SELF_CHECK, *built_in, "os.system", f"x\n{FORGED}"):
        yield from (json.dumps(message(task, [one])).encode() for one in odd)
        yield from (json.dumps(message(task, args)).encode() for args in (odd, {"a": 1}, "text"))
    yield json.dumps(message(args=["x" * 8_000_000])).encode()
    packed = base64.b64encode(zlib.compress(b"0" * 200_000_000)).decode()
    yield json.dumps(message(compression="application/x-gzip") | {"body": packed}).encode()
    pickled = {"content-type": "application/x-python-serialize", "content-encoding": "binary"}
    yield json.dumps(message() | pickled).encode()
    yield json.dumps({"task": wire.RUN_TURN, "id": "1", "args": [FORGED], "kwargs": {}}).encode()


def drained(stage: Stage) -> bool:
    return all(stage.broker.llen(queue) == 0 for queue in QUEUES)


def query(stage: Stage, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(stage.database_url, autocommit=True) as connection:
        cursor = connection.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


PAST = """
INSERT INTO turnmill.rollups (slot, provider, model, tier, lane, tag, turns, succeeded, failed,
    dead, cancelled, expired, attempts, retries, steps, input_tokens, output_tokens, cached_tokens,
    cache_write_tokens, unpriced_attempts, cost_usd, waste_usd, queued_buckets, queued_counts,
    first_token_buckets, first_token_counts, provider_buckets, provider_counts, total_buckets,
    total_counts)
SELECT (current_date - d)::timestamp AT TIME ZONE 'UTC', 'openai', 'm', '', '', '',
    7, 7, 0, 0, 0, 0, 7, 0, 0, 70, 70, 0, 0, 0, 1.5, 0, '{}', '{}', '{}', '{}',
    '{}', '{}', '{}', '{}'
FROM generate_series(2, 400) AS d
"""
BOOKS = "SELECT count(*), sum(turns) FROM turnmill.rollups WHERE slot < current_date - 1"


@pytest.mark.long
def test_nothing_that_can_be_pushed_into_redis_ends_a_worker_changes_a_book_or_forges_a_line(
    stage: Stage,
) -> None:
    query(stage, PAST)
    odd = list(odd_messages())
    for number, queue in enumerate(QUEUES):
        stage.broker.lpush(queue, *(odd if queue in MAIN else odd[number::4]))
    for number, channel in enumerate(("/0.celery.pidbox", "/0.reply.celery.pidbox")):
        for one in odd[number::4]:
            stage.broker.publish(channel, one)
    stage.broker.zadd("unacked_index", {"junk": 1.0})
    stage.broker.hset("unacked", "junk", f"\n{FORGED}")
    assert wait_until(lambda: drained(stage), timeout=SOON * 2)

    assert stage.answers()
    assert query(stage, BOOKS) == [(399, 399 * 7)]
    assert query(stage, "SELECT count(*) FROM turnmill.turns WHERE state <> 'succeeded'") == [(0,)]
    lines = stage.logged().partition(" ready.")[2].splitlines()[1:]
    assert [line for line in lines if not (OURS.match(line) or line.startswith("  | "))] == []
    assert FORGED in stage.logged(), "none of the forged lines came so far"
    assert stage.logged().count("Connection to broker lost") == 0


@pytest.mark.long
def test_a_job_that_is_forged_hundreds_of_times_runs_a_few_times_and_for_a_slot_that_is_near(
    stage: Stage,
) -> None:
    now = datetime.now(UTC)
    slots = [now - timedelta(days=day, minutes=day) for day in range(250)]
    slots += [now + timedelta(seconds=number) for number in range(250)]
    for task in (wire.ROLL_UP_USAGE, wire.ARCHIVE_IDLE):
        stage.broker.lpush(
            wire.UPKEEP_QUEUE, *(json.dumps(message(task, [one.isoformat()])) for one in slots)
        )
    assert wait_until(lambda: drained(stage), timeout=SOON)
    assert stage.answers()
    most = "SELECT max(runs) FROM (SELECT count(*) AS runs FROM turnmill.job_runs GROUP BY name) r"
    assert query(stage, most)[0][0] <= 5
    assert query(stage, BOOKS.replace("current_date - 1", "'1970-01-01'")) == [(0, None)]


def test_a_revoked_turn_is_late_by_a_hint_and_no_more(stage: Stage) -> None:
    session = stage.client.sessions.create(user_id="ada", provider="mock", model="m")
    first = stage.client.send(session, "Hello")
    second = stage.client.send(session, "And again")
    stage.app.control.revoke(str(second.id))
    stage.broker.lpush(QUEUES[0], *[json.dumps(message(args=[str(uuid.uuid4())]))] * 50)
    assert first.result(timeout=SOON).text and second.result(timeout=SOON).text


@pytest.fixture
def stranger(stage: Stage) -> Iterator[psycopg.Connection]:
    """A login without any grant."""
    query(stage, "CREATE ROLE stranger LOGIN PASSWORD 'x'")
    url = urlsplit(stage.database_url)
    there = url._replace(netloc=f"stranger:x@{url.hostname}:{url.port}").geturl()
    with psycopg.connect(there, autocommit=True) as connection:
        yield connection
    query(stage, "DROP ROLE stranger")


def test_a_login_without_a_grant_cancels_nothing_by_notify(
    stage: Stage, stranger: psycopg.Connection
) -> None:
    session = stage.client.sessions.create(user_id="ada", provider="mock", model="m")
    turn = stage.client.send(session, "Hello", metadata={"mock": {"latency": 2}})
    states = set()

    def notified() -> bool:
        for channel in (wire.CANCEL_CHANNEL, wire.WAKE_CHANNEL, wire.SETTLED_CHANNEL):
            for payload in (str(turn.id), f"{turn.id},{turn.id}", "x" * 7000, "\n", "{}"):
                stranger.execute("SELECT pg_notify(%s, %s)", (channel, payload))
        states.add(turn.refresh().state)
        return turn.state in FINAL

    assert wait_until(notified, timeout=SOON)
    assert TurnState.RUNNING in states
    assert turn.state is TurnState.SUCCEEDED
    assert [one.outcome for one in turn.attempts()] == ["succeeded"]


def test_a_turn_that_its_row_says_is_cancelled_is_stopped_at_once(stage: Stage) -> None:
    session = stage.client.sessions.create(user_id="ada", provider="mock", model="m")
    turn = stage.client.send(session, "Hello", metadata={"mock": {"latency": 600}})
    assert wait_until(lambda: turn.refresh().state is TurnState.RUNNING, timeout=SOON)
    turn.cancel()
    assert wait_until(lambda: turn.refresh().state in FINAL, timeout=SOON)
    assert turn.state is TurnState.CANCELLED


OFF: list[tuple[str, dict[str, Any]]] = [
    ("shutdown", {}),
    ("pool_shrink", {"n": 49}),
    ("pool_grow", {"n": 100_000}),
    ("pool_restart", {}),
    ("autoscale", {"max": 1, "min": 1}),
    ("rate_limit", {"task_name": wire.RUN_TURN, "rate_limit": "1/h"}),
    ("time_limit", {"task_name": wire.RUN_TURN, "hard": 1, "soft": 1}),
    ("add_consumer", {"queue": "elsewhere"}),
    ("cancel_consumer", {"queue": "turnmill.interactive"}),
    ("election", {"id": "1", "topic": "t"}),
    ("disable_events", {}),
    ("objgraph", {}),
    ("memdump", {}),
]


@pytest.mark.parametrize(("name", "arguments"), OFF, ids=[name for name, _ in OFF])
def test_in_production_a_remote_command_that_changes_a_worker_is_refused(
    stage: Stage, name: str, arguments: dict[str, Any]
) -> None:
    (told,) = stage.app.control.broadcast(name, arguments=arguments, reply=True, timeout=5, limit=1)
    assert told == {NAME: {"error": f"{name} is off: TURNMILL_REMOTE_CONTROL=all turns it on"}}


def test_in_production_whoever_inspects_is_answered(stage: Stage) -> None:
    inspect = stage.app.control.inspect(timeout=5, destination=[NAME], limit=1)
    assert inspect.ping() == {NAME: {"ok": "pong"}}
    (queues,) = inspect.active_queues().values()
    assert {queue["name"] for queue in queues} == set(QUEUES)
    assert wire.RUN_TURN in inspect.registered()[NAME]
    for look in (inspect.stats, inspect.active, inspect.reserved, inspect.scheduled, inspect.conf):
        assert NAME in look()
    assert stage.answers()
