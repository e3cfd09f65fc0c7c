"""Keys are rotated, and taken away, while turns are in flight: nothing is lost or unreadable."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.chaos.system import PATIENCE, ROOT, Servers, System, kill, until
from tests.keyed import in_a_file
from turnmill import Client

CANARY = "CANARY-7d1e"
USERS = 40


@pytest.fixture
def keyring(servers: Servers) -> Iterator[Path]:
    folder = servers.home.folder("keys")
    path = folder / "keyring"
    in_a_file(path)
    yield path
    path.unlink()


@pytest.fixture
def system(servers: Servers, keyring: Path) -> Iterator[System]:
    """A system whose content is encrypted, with wrapped keys apart from its database."""
    environment = {
        "TURNMILL_ENCRYPTION_KEYS": str(keyring),
        "TURNMILL_KEY_STORE": str(keyring.parent / "wrapped"),
        "TURNMILL_ENCRYPT_SETTINGS": "on",
    }
    with System(servers, environment=environment) as system:
        yield system


def client_of(system: System, keyring: Path) -> Client:
    keys = {"encryption_keys": str(keyring), "key_store": str(keyring.parent / "wrapped")}
    return system.client(**keys, encrypt_settings=True)


def command(system: System, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "turnmill.cli", "encryption", *words],
        env=system.variables,
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def done(command: "subprocess.Popen[str]", *, within: timedelta = PATIENCE) -> str:
    said, _ = command.communicate(timeout=within.total_seconds())
    assert command.returncode == 0, said
    return said


def sealed_by(system: System) -> set[str]:
    """Return the ids of the data keys that messages and settings are sealed by."""
    return {
        row[0]
        for row in system.rows(
            "SELECT DISTINCT substr(content #>> '{}', 5, 22) FROM turnmill.messages"
            " UNION SELECT DISTINCT substr(settings ->> 'tm1', 5, 22) FROM turnmill.sessions"
        )
    }


@pytest.mark.parametrize(
    "at_once",
    [None, pytest.param(2_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])],
    ids=["some", "2000"],
)
def test_keys_are_rotated_under_turns_in_flight_and_kills(
    system: System, keyring: Path, many: int, at_once: int | None
) -> None:
    many = at_once or many
    workers = [system.launch_worker(concurrency=many, TURNMILL_MOCK_LATENCY="1-3") for _ in "ab"]
    system.await_ready(*workers)
    with client_of(system, keyring) as client:
        sessions = [
            client.sessions.create(
                user_id=f"user-{n % USERS}",
                system_prompt=CANARY,
                settings={"mock": {"reply": f"{CANARY} {n}"}},
            )
            for n in range(many)
        ]
        # What is answered stands in settings, which a worker has to open, and nowhere else.
        sent = [client.send(one, f"{CANARY} asks") for one in sessions]
        until(lambda: system.count_calls() > many // 10)
        before = sealed_by(system)
        rotating = command(system, "rotate")
        assert rotating.stdout is not None
        assert "made" in rotating.stdout.readline()
        os.kill(rotating.pid, signal.SIGKILL)
        rotating.communicate()
        kill(workers.pop(0))
        workers.append(system.start_worker(concurrency=many, TURNMILL_MOCK_LATENCY="0-1"))
        replies = [
            one.result(timeout=(5 if at_once is None else 20) * PATIENCE).text for one in sent
        ]
        assert replies == [f"{CANARY} {n}" for n in range(many)]
        done(command(system, "reseal"), within=10 * PATIENCE)
        assert sealed_by(system) & before == set()
    with client_of(system, keyring) as fresh:
        for n, one in enumerate(sessions):
            first = next(iter(fresh.sessions.history(one)))
            assert first.text == f"{CANARY} asks"
            assert fresh.sessions.get(one.id).settings == {"mock": {"reply": f"{CANARY} {n}"}}
    rows = system.rows(
        "SELECT count(*) FROM turnmill.messages m JOIN turnmill.sessions s ON s.id = m.session_id"
        " WHERE concat(m.content, s.system_prompt, s.settings) LIKE %s",
        f"%{CANARY}%",
    )
    assert rows == [(0,)]


def test_turns_wait_while_a_master_key_is_gone_and_go_on_when_it_is_back(
    system: System, keyring: Path
) -> None:
    theirs = keyring.with_name("of-workers")
    theirs.write_text("")
    system.start_worker(TURNMILL_ENCRYPTION_KEYS=str(theirs))
    with client_of(system, keyring) as client:
        said = {"mock": {"reply": f"{CANARY} of settings"}}
        opened = [client.sessions.create(user_id=user, settings=said) for user in "ab"]
        sent = [client.send(one, CANARY) for one in opened]
        for turn in sent:
            until(lambda turn=turn: turn.refresh().record.waits_for == "key")  # type: ignore[misc]
        theirs.write_text(keyring.read_text())
        replies = {one.result(timeout=PATIENCE).text for one in sent}
        assert replies == {f"{CANARY} of settings"}
        assert {one.refresh().record.attempt for one in sent} == {1}
    assert CANARY not in system.logs()


def test_a_reply_that_streams_is_sealed_in_redis_and_read_as_it_comes(
    system: System, keyring: Path
) -> None:
    system.start_worker(TURNMILL_MOCK_LATENCY="0.2")
    with client_of(system, keyring) as client:
        turn = client.send(client.sessions.create(user_id="ada"), CANARY, stream=True)
        said = "".join(one.text or "" for one in turn.stream(timeout=PATIENCE))
        assert CANARY in said and said == turn.result(timeout=PATIENCE).text
        again = "".join(one.text or "" for one in turn.stream(timeout=PATIENCE))
        assert again == said
    with system.servers.redis() as redis:
        (stream,) = redis.scan_iter("turnmill:stream:*")
        entries = redis.xrange(stream)
    assert len(entries) > 2 and CANARY not in str(entries)
