"""Celery's programs are started with our options, and refused where production would be open."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from tests.acceptance.terminal import Terminal, clean_environment
from turnmill.cli import main
from turnmill_worker.stack.valkey import EmbeddedValkey


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """Note what this process would have become."""
    found: list[tuple[list[str], dict[str, str]]] = []

    def note(path: str, argv: list[str], env: dict[str, str]) -> None:
        found.append((argv, env))
        raise SystemExit(0)

    monkeypatch.setattr(os, "execve", note)
    monkeypatch.setenv("TURNMILL_DATABASE_URL", "postgresql://u:db-secret@127.0.0.1/x")
    monkeypatch.setenv("TURNMILL_BROKER_URL", "redis://:broker-secret@127.0.0.1:6379/0")
    monkeypatch.setenv("TURNMILL_FLOWER_AUTH", "ada:flower-secret")
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://127.0.0.1:1/0")
    return found


@pytest.mark.parametrize(
    ("arguments", "among"),
    [
        (("worker", "--concurrency", "7", "-n", "w1@%h"), ("--concurrency=7", "-n", "w1@%h")),
        (("worker", "--events"), ("--events", "--concurrency=1000")),
        (("beat", "--schedule", "s"), ("--schedule=s",)),
        (("flower", "--port=7777"), ("--port=7777", "--address=127.0.0.1")),
    ],
)
def test_celery_gets_our_options_and_the_callers_but_no_secret_and_no_other_broker(
    executed: list[tuple[list[str], dict[str, str]]],
    arguments: tuple[str, ...],
    among: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["turnmill", *arguments])
    with pytest.raises(SystemExit):
        main()
    [(argv, env)] = executed
    module = "celery" if arguments[0] == "flower" else "turnmill_worker"
    assert list(argv[1:6]) == ["-P", "-m", module, "-A", "turnmill_worker.app"]
    assert set(among) <= set(argv)
    assert "secret" not in " ".join(argv)
    assert env["TURNMILL_BROKER_URL"].startswith("redis://:broker-secret")
    assert "CELERY_BROKER_URL" not in env


def test_flower_refuses_to_run_without_a_login(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    executed: list[tuple[list[str], dict[str, str]]],
) -> None:
    for login in ("", "ada", "ada:", ":secret"):
        monkeypatch.setenv("TURNMILL_FLOWER_AUTH", login)
        monkeypatch.setattr(sys, "argv", ["turnmill", "flower"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 1
        assert "TURNMILL_FLOWER_AUTH=user:password" in capsys.readouterr().err
    assert executed == []


@pytest.mark.parametrize("option", ["--basic-auth=eve:x", "--basic_auth=eve:x", "--conf=mine.py"])
def test_flowers_login_cannot_be_replaced_on_the_command_line(
    option: str,
    monkeypatch: pytest.MonkeyPatch,
    executed: list[tuple[list[str], dict[str, str]]],
) -> None:
    monkeypatch.setattr(sys, "argv", ["turnmill", "flower", option])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, executed) == (2, [])


FLOWER = ("-m", "celery", "-A", "turnmill_worker.app", "flower", "--port=0")


OPEN, GUESSED = "Flower would be open to everybody", "Flower's login is one that everybody tries"


#: One that makes a Flower of its own, without Celery's command line.
OWN_PROGRAM = """
from flower.app import Flower
from flower.options import default_options
from turnmill_worker.app import app
default_options.port = 0
Flower(capp=app, options=default_options).start_http_server()
"""


def slow(*arguments: object) -> ParameterSet:
    return pytest.param(*arguments, marks=pytest.mark.slow)


@pytest.mark.long
@pytest.mark.parametrize(
    ("command", "variables", "config", "why"),
    [
        (FLOWER, {}, "", OPEN),
        (("-c", OWN_PROGRAM), {}, "", OPEN),
        (FLOWER, {}, "basic_auth = ['ada:']", GUESSED),
        slow((*FLOWER, "--basic-auth="), {}, "", GUESSED),
        slow(FLOWER, {"FLOWER_UNAUTHENTICATED_API": "true"}, "", OPEN),
        slow((*FLOWER, "--conf=none.py"), {"FLOWER_ADDRESS": "0.0.0.0"}, "", OPEN),
        slow((*FLOWER, "--basic-auth=admin:admin"), {}, "", GUESSED),
        slow(FLOWER, {"FLOWER_BASIC_AUTH": "ada:k2-8f,guest:guest"}, "", GUESSED),
        slow(FLOWER, {"TURNMILL_FLOWER_AUTH": "ada:password"}, "", GUESSED),
        slow(
            (*FLOWER, "--basic-auth=ada:k2-8f", "--broker-api=http://u:k2-8f@rabbit:15672/api/"),
            *({}, "", "--broker-api leads to another host without TLS"),
        ),
    ],
)
def test_production_refuses_a_flower_that_is_open_by_whatever_way_it_is_started(
    command: tuple[str, ...], variables: dict[str, str], config: str, why: str, tmp_path: Path
) -> None:
    (tmp_path / "flowerconfig.py").write_text(config)
    (tmp_path / "none.py").write_text("")
    environment = clean_environment() | {
        "TURNMILL_PROFILE": "production",
        "TURNMILL_ENCRYPTION": "off",
        "TURNMILL_DATABASE_URL": "postgresql://u:k2-8f@127.0.0.1/x",
        "TURNMILL_BROKER_URL": "redis://:k2-8f@127.0.0.1:1/0",
    }
    done = subprocess.run(
        [sys.executable, *command],
        env=environment | variables,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert f"turnmill: {why}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("program", ["worker", pytest.param("beat", marks=pytest.mark.long)])
def test_production_dials_no_broker_that_celery_was_told_behind_its_back(
    program: str, tmp_path: Path
) -> None:
    environment = clean_environment() | {
        "TURNMILL_PROFILE": "production",
        "TURNMILL_ENCRYPTION": "off",
        "TURNMILL_DATABASE_URL": "postgresql://u:k2-8f@127.0.0.1:1/x",
        "TURNMILL_BROKER_URL": "redis://:k2-8f@127.0.0.1:1/0",
        "CELERY_BROKER_URL": "redis://elsewhere/0",
    }
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "turnmill_worker.app", program],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "Celery would dial another broker" in done.stderr
    assert "unset CELERY_BROKER_URL" in done.stderr


@pytest.mark.long
def test_production_refuses_a_broker_that_evicts_and_doctor_says_so(
    home: Path, database_url: str, tmp_path: Path
) -> None:
    with EmbeddedValkey(home, port=0) as valkey:
        import redis

        with redis.Redis.from_url(valkey.url) as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
        there = Terminal(
            tmp_path,
            {
                "TURNMILL_PROFILE": "production",
                "TURNMILL_ENCRYPTION": "off",
                "TURNMILL_DATABASE_URL": database_url,
                "TURNMILL_BROKER_URL": valkey.url,
            },
        )
        worker = there.spawn("-m", "turnmill.cli", "worker")
        doctor = there.run("doctor", "--json")

    assert worker.code != 0
    assert "evicts (allkeys-lru)" in worker.err
    assert "set its maxmemory-policy to noeviction" in worker.err
    broker = [one for one in doctor.json()["findings"] if one["check"] == "broker"]
    assert [one["level"] for one in broker] == ["ok", "wrong"]


@pytest.mark.long
def test_a_flower_whose_port_is_taken_says_so_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        surroundings = {
            "TURNMILL_FLOWER_AUTH": "ada:k2-8f",
            "TURNMILL_BROKER_URL": "redis://127.0.0.1:1/0",
        }
        there = Terminal(tmp_path, surroundings)
        flower = there.spawn("-m", "turnmill.cli", "flower", f"--port={port}")
    assert flower.code != 0
    assert f"turnmill: Flower cannot listen at 127.0.0.1:{port}: Address already" in flower.err
    assert "hint: another Flower may run there" in flower.err
    assert "Traceback" not in flower.err


@pytest.mark.long
@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("TURNMILL_PRICES", "/nowhere/at/all", "TURNMILL_PRICES: the file cannot be read"),
        slow("TURNMILL_DEFAULTS", "/nowhere/at/all", "TURNMILL_DEFAULTS: the file cannot be read"),
        slow("TURNMILL_LAYERS", "nosuch", "TURNMILL_LAYERS names 'nosuch'"),
        ("TURNMILL_ALERTS", "cost=maybe", "TURNMILL_ALERTS names what is no bound"),
        slow("TURNMILL_SCHEDULE_PURGE", "never", "TURNMILL_SCHEDULE_PURGE is not a crontab"),
    ],
)
def test_what_no_worker_can_start_with_is_a_line_and_a_hint(
    variable: str,
    value: str,
    why: str,
    database_url: str,
    valkey_server: EmbeddedValkey,
    tmp_path: Path,
) -> None:
    surroundings = {"TURNMILL_DATABASE_URL": database_url, variable: value}
    there = Terminal(tmp_path, surroundings | {"TURNMILL_BROKER_URL": valkey_server.url})
    worker = there.spawn("-m", "turnmill.cli", "worker")
    assert worker.code != 0
    line, hint = worker.err.rstrip().split("\n")[-2:]
    assert line.startswith(f"turnmill: {why}")
    assert hint.startswith("  hint: ")
    assert "Traceback" not in worker.err
