"""docker-compose.yml without containers: its own commands and checks, on real servers."""

import base64
import os
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from subprocess import Popen

import psycopg
import pytest
import redis

from tests.integration.compose_file import ROOT, Machine, Service, VariableMissing, services
from turnmill import Client
from turnmill_worker.stack import binaries, ports
from turnmill_worker.stack.postgres import EmbeddedPostgres
from turnmill_worker.stack.process import wait_until

GIVEN = {
    "POSTGRES_PASSWORD": "pg-password",
    "POSTGRES_OWNER_PASSWORD": "owner-password",
    "POSTGRES_APP_PASSWORD": "app-password",
    "POSTGRES_VIEWER_PASSWORD": "viewer-password",
    "REDIS_PASSWORD": "redis-password",
    "TURNMILL_FLOWER_AUTH": "ada:lovelace",
}
SOON = timedelta(seconds=45)


@pytest.mark.parametrize("name", GIVEN)
def test_it_refuses_to_start_without_each_of_the_secrets(name: str) -> None:
    with pytest.raises(VariableMissing, match=name):
        services({**GIVEN, name: ""})


def test_nothing_is_published_beyond_this_machine() -> None:
    published = [port for service in services(GIVEN).values() for port in service.ports]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_no_part_starts_before_the_schema_stands_and_all_but_migrate_can_be_asked() -> None:
    found = services(GIVEN)
    for name in ("worker", "beat"):
        assert found[name].needs == {
            "migrate": "service_completed_successfully",
            "redis": "service_healthy",
        }
    assert found["migrate"].needs == {"postgres": "service_healthy"}
    assert found["flower"].needs == {"redis": "service_healthy"}
    assert {name for name, service in found.items() if service.check is None} == {"migrate"}


def test_only_the_worker_knows_the_keys_of_providers() -> None:
    given = {**GIVEN, "OPENAI_API_KEY": "sk-canary", "ANTHROPIC_API_KEY": "sk-canary"}
    knowing = {
        name
        for name, service in services(given).items()
        if "sk-canary" in service.environment.values()
    }
    assert knowing == {"worker"}


def test_each_service_holds_the_passwords_that_it_uses_and_no_other() -> None:
    passwords = {name: GIVEN[name] for name in GIVEN if "PASSWORD" in name}
    holds = {
        service: {
            name
            for name, password in passwords.items()
            if any(password in value for value in found.environment.values())
        }
        for service, found in services(GIVEN).items()
    }
    assert holds == {
        "postgres": {"POSTGRES_PASSWORD"},
        "redis": {"REDIS_PASSWORD"},
        "migrate": {name for name in passwords if name.startswith("POSTGRES_")},
        "worker": {"POSTGRES_APP_PASSWORD", "REDIS_PASSWORD"},
        "beat": {"REDIS_PASSWORD"},
        "flower": {"POSTGRES_VIEWER_PASSWORD", "REDIS_PASSWORD"},
    }


def test_everything_that_the_image_copies_exists_and_is_let_through() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [
        source
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_through = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    for source in copied:
        assert (ROOT / source).exists(), source
        assert source.split("/")[0] in let_through, source
    assert "USER 10001" in lines


@pytest.fixture
def machine(home: Path, database_url: str, broker_url: str) -> Machine:
    """Where the services run: the folder of the image, its addresses, all on this machine."""
    return Machine(
        folder=home,
        moved={
            "/var/lib/turnmill": str(home),
            "0.0.0.0": "127.0.0.1",
            "5555": str(ports.choose(0)),
        },
        environment={
            "TURNMILL_HOME": str(home),
            "TURNMILL_DATABASE_URL": database_url,
            "TURNMILL_BROKER_URL": broker_url,
            "HOSTNAME": socket.gethostname(),
        },
    )


@pytest.fixture
def empty_database(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    admin = postgres_server.url_of("postgres")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("CREATE DATABASE compose_empty")
    yield postgres_server.url_of("compose_empty")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("DROP DATABASE compose_empty WITH (FORCE)")
        connection.execute("DROP ROLE IF EXISTS compose_owner, compose_app, compose_viewer")


@pytest.mark.long
def test_migrate_prepares_an_empty_database_and_may_run_at_every_start(
    machine: Machine, empty_database: str
) -> None:
    migrate = services(GIVEN)["migrate"]
    server = empty_database.rpartition("@")[2]
    as_ours = {
        f"TURNMILL_{variable}_URL": f"postgresql://compose_{role}:x@{server}"
        for variable, role in (("OWNER", "owner"), ("DATABASE", "app"), ("VIEWER", "viewer"))
    }
    there = replace(
        machine,
        environment={**machine.environment, "TURNMILL_SUPERUSER_URL": empty_database, **as_ours},
    )
    for _ in range(2):
        assert there.run(migrate, timeout=SOON) == 0, there.log(migrate).read_text()
    with Client(database_url=as_ours["TURNMILL_DATABASE_URL"]) as client:
        assert client.sessions.list() == []
    with (
        psycopg.connect(as_ours["TURNMILL_DATABASE_URL"]) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("COPY turnmill.turns (error_code) FROM PROGRAM 'env'")


@pytest.mark.long
def test_worker_beat_and_flower_become_healthy_and_answer(
    machine: Machine, database_url: str, broker_url: str
) -> None:
    found = services(GIVEN)
    worker, beat, flower = found["worker"], found["beat"], found["flower"]
    with machine.started(worker) as working, machine.started(beat) as beating:
        await_health(machine, worker, working)
        await_health(machine, beat, beating)
        with machine.started(flower) as flowering:
            await_health(machine, flower, flowering)
            with Client(database_url=database_url, broker_url=broker_url) as client:
                session = client.sessions.create(user_id="ada", provider="mock", model="mock")
                assert client.send(session, "Hello").result(timeout=30).text
            assert answer_of(machine, login=None) == 401
            assert answer_of(machine, login=GIVEN["TURNMILL_FLOWER_AUTH"]) == 200
    assert [process.returncode for process in (working, beating, flowering)] == [0, 0, 0]


def await_health(machine: Machine, service: Service, process: Popen[bytes]) -> None:
    """Wait until the service's own check passes; fail with its log when it died or never does."""
    answers: list[bool] = []

    def is_decided() -> bool:
        answers.append(machine.is_healthy(service))
        return answers[-1] or process.poll() is not None

    wait_until(is_decided, timeout=SOON)
    assert answers[-1], machine.log(service).read_text()


def answer_of(machine: Machine, *, login: str | None) -> int:
    """Ask Flower for its first page and return the status."""
    headers = {}
    if login is not None:
        headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    connection = HTTPConnection("127.0.0.1", int(machine.moved["5555"]), timeout=10)
    try:
        connection.request("GET", "/workers", headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.long
def test_a_worker_is_healthy_without_its_broker_and_not_when_it_stands_still(
    machine: Machine,
) -> None:
    worker = services(GIVEN)["worker"]
    nobody = f"redis://127.0.0.1:{ports.choose(0)}/0"
    alone = replace(machine, environment={**machine.environment, "TURNMILL_BROKER_URL": nobody})
    with alone.started(worker) as process:
        await_health(alone, worker, process)
        process.send_signal(signal.SIGSTOP)
        assert wait_until(lambda: not alone.is_healthy(worker), timeout=SOON)
        process.send_signal(signal.SIGCONT)
        await_health(alone, worker, process)


def test_a_dead_worker_is_not_healthy(machine: Machine) -> None:
    assert not machine.is_healthy(services(GIVEN)["worker"])


def test_postgres_is_asked_as_the_file_says(
    machine: Machine, postgres_server: EmbeddedPostgres
) -> None:
    postgres = services(GIVEN)["postgres"]
    os.symlink(binaries.find_postgres().path.with_name("pg_isready"), machine.folder / "pg_isready")

    def at(port: int) -> Machine:
        return Machine(
            folder=machine.folder, moved=machine.moved, environment={"PGPORT": str(port)}
        )

    assert at(postgres_server.port).is_healthy(postgres)
    assert not at(ports.choose(0)).is_healthy(postgres)


REDIS_SERVER = """#!/bin/sh
exec {program} "$@" --port {port} --bind 127.0.0.1 --dir {folder}
"""

REDIS_CLI = """#!{python}
import os, sys, redis
client = redis.Redis(port={port}, password=os.environ["REDISCLI_AUTH"])
print("PONG" if client.execute_command(*sys.argv[1:]) in (True, b"PONG") else "no")
"""


@pytest.mark.long
def test_redis_asks_for_the_password_keeps_hints_and_never_evicts(machine: Machine) -> None:
    service, port = services(GIVEN)["redis"], ports.choose(0)
    program = binaries.find_valkey().path
    server = REDIS_SERVER.format(program=program, port=port, folder=machine.folder)
    write_program(machine.folder / "redis-server", server)
    cli = REDIS_CLI.format(python=sys.executable, port=port)
    write_program(machine.folder / "redis-cli", cli)
    with machine.started(service) as process:
        await_health(machine, service, process)
        with redis.Redis(port=port, password=GIVEN["REDIS_PASSWORD"]) as client:
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("appendonly") == {"appendonly": "yes"}
        with (
            redis.Redis(port=port) as stranger,
            pytest.raises(redis.exceptions.AuthenticationError),
        ):
            stranger.ping()


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
