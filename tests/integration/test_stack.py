"""`turnmill up`: real processes, from the ready line to the last one that ends."""

import json
import os
import signal
import socket
import struct
import sys
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import SplitResult, urlsplit

import psycopg
import pytest
import redis

from tests.acceptance.terminal import Terminal
from tests.conftest import make_home
from tests.integration.stack_process import GONE_WITHIN, Up
from turnmill import AccessDenied, Client, Settings
from turnmill.domain.states import TurnState
from turnmill.running_home import ROLE_FILES, role_urls_of_home, settings_of_home
from turnmill.sync.turns import Turn
from turnmill_worker.stack.postgres import EmbeddedPostgres
from turnmill_worker.stack.process import wait_until
from turnmill_worker.stack.valkey import EmbeddedValkey

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")

SOON = timedelta(seconds=30)
Line = dict[str, object]
#: Of whoever starts it; a worker may need all of it.
THEIRS = {
    "OPENAI_API_KEY": "sk-canary",
    "ANTHROPIC_API_KEY": "sk-canary",
    "SOMEBODYS_TOKEN": "canary-too",
    "PGPASSWORD": "canary-too",
}


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Up, Line]]:
    home = make_home()
    with Up(home.path, "--workers", "2", "--concurrency", "10", env=THEIRS) as up:
        yield up, up.ready()
    home.discard()


@pytest.fixture
def servers(postgres_server: EmbeddedPostgres, valkey_server: EmbeddedValkey) -> dict[str, str]:
    """The environment of an `up` that brings no servers along: it starts faster."""
    return {
        "TURNMILL_DATABASE_URL": postgres_server.url,
        "TURNMILL_BROKER_URL": valkey_server.url,
    }


def asked(url: SplitResult, path: str, *, login: bool = True) -> urllib.request.Request:
    request = urllib.request.Request(f"http://{url.hostname}:{url.port}{path}")
    if login:
        pair = b64encode(f"{url.username}:{url.password}".encode()).decode()
        request.add_header("Authorization", f"Basic {pair}")
    return request


def fetch(url: SplitResult, *, path: str = "/", login: bool) -> int:
    try:
        with urllib.request.urlopen(asked(url, path, login=login), timeout=10) as response:
            return int(response.status)
    except HTTPError as error:
        with error:
            return error.code


def query(url: object, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(str(url), autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def answers(url: object) -> bool:
    try:
        return query(url, "SELECT 1") == [(1,)]
    except psycopg.OperationalError:
        return False


def test_the_ready_line_says_where_everything_is(running: tuple[Up, Line]) -> None:
    up, line = running

    assert list(line) == ["event", "database_url", "broker_url", "flower_url", "pid"]
    assert line["event"] == "ready"
    assert line["pid"] == up.popen.pid
    assert query(line["database_url"], "SELECT count(*) FROM turnmill.turns") == [(0,)]
    with redis.Redis.from_url(str(line["broker_url"])) as client:
        assert client.ping()
    for path in ("/", "/metrics"):
        assert fetch(urlsplit(str(line["flower_url"])), path=path, login=True) == 200


@pytest.mark.parametrize(
    "path", ["/", "/workers", "/tasks", "/broker", "/api/workers", "/api/tasks", "/metrics"]
)
def test_flower_shows_nothing_without_the_password(running: tuple[Up, Line], path: str) -> None:
    _, line = running
    assert fetch(urlsplit(str(line["flower_url"])), path=path, login=False) == 401


def test_each_worker_is_a_descendant_with_worker_among_its_arguments(
    running: tuple[Up, Line],
) -> None:
    up, _ = running
    assert len(up.workers()) == 2


def test_no_password_stands_on_a_command_line(running: tuple[Up, Line]) -> None:
    up, line = running
    urls = [urlsplit(str(line[name])) for name in ("database_url", "broker_url", "flower_url")]
    passwords = [url.password for url in urls]

    seen = "\n".join(" ".join(process.argv) for process in up.descendants())

    assert all(password and password not in seen for password in passwords)


def test_no_child_but_workers_holds_what_the_caller_does_and_none_the_passwords_of_others(
    running: tuple[Up, Line],
) -> None:
    up, line = running
    told = {process: environment_of(process.pid) for process in up.descendants()}
    workers = {process for process in told if "worker" in process.argv}
    passwords = [secret_of(up, name) for name in ("postgres", "turnmill_owner")]
    flower = {process for process in told if "flower" in process.argv}

    assert {process for process, env in told.items() if "canary" in env} == workers
    assert {process for process, env in told.items() if str(line["database_url"]) in env} == workers
    assert [password for password in passwords for env in told.values() if password in env] == []
    for name in ("flower", "turnmill_viewer"):  # which reads no content
        assert {process for process, env in told.items() if secret_of(up, name) in env} == flower


#: A process has ended since it was seen: those of a server's connections come and go.
_HAS_ENDED = (FileNotFoundError, ProcessLookupError)


def environment_of(pid: int) -> str:
    """Return its environment; nothing, where it has ended."""
    with suppress(*_HAS_ENDED):
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    return ""


def secret_of(up: Up, name: str) -> str:
    path = up.home / "secrets" / name
    assert path.stat().st_mode & 0o077 == 0
    return path.read_text()


@pytest.mark.parametrize(
    "statement",
    [
        "COPY (SELECT 1) TO PROGRAM 'env'",
        "COPY turnmill.turns (error_code) FROM PROGRAM 'env'",
        "SELECT pg_read_file('/etc/passwd')",
        "CREATE TABLE mine (n int)",
        "CREATE TABLE turnmill.mine (n int)",
        "CREATE TEMPORARY TABLE mine (n int)",
        "DROP TABLE turnmill.turns",
        "TRUNCATE turnmill.turns",
        "ALTER TABLE turnmill.turns ADD mine int",
        "UPDATE turnmill.schema_version SET version_num = '0'",
        "CREATE ROLE mine",
        "ALTER ROLE turnmill_app SUPERUSER",
        "SET ROLE turnmill_owner",
        "SET SESSION AUTHORIZATION turnmill",
        "CREATE SCHEMA mine",
    ],
)
def test_the_url_of_the_ready_line_is_for_rows_and_for_nothing_else(
    running: tuple[Up, Line], statement: str
) -> None:
    _, line = running
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        query(line["database_url"], statement)


def test_everything_listens_on_loopback_only(running: tuple[Up, Line]) -> None:
    up, _ = running
    addresses = {address for process in up.descendants() for address in listening(process.pid)}
    assert addresses == {"127.0.0.1"}


def test_a_second_up_on_the_same_home_says_so_and_leaves_the_first_alone(
    running: tuple[Up, Line],
) -> None:
    up, line = running
    with Up(up.home) as second:
        out, err = second.popen.communicate(timeout=20)

    assert second.popen.returncode == 1
    assert out == ""
    assert f"process {up.popen.pid}" in err
    assert answers(line["database_url"])


def test_a_worker_that_was_killed_is_started_again(running: tuple[Up, Line]) -> None:
    up, _ = running
    before = {process.pid for process in up.workers()}

    os.kill(min(before), signal.SIGKILL)

    assert wait_until(lambda: len({p.pid for p in up.workers()} - before) == 1, timeout=SOON)
    assert wait_until(lambda: len(up.workers()) == 2, timeout=SOON)


@pytest.mark.long
def test_flower_shows_what_ran_in_the_first_moment_and_up_says_what_it_starts_again(
    home: Path, database_url: str, broker_url: str
) -> None:
    servers = {"TURNMILL_DATABASE_URL": database_url, "TURNMILL_BROKER_URL": broker_url}
    with Client(database_url=database_url, broker_url=broker_url) as client:
        waiting = [client.send(client.sessions.create(user_id="ada"), "hi") for _ in range(20)]
        with Up(home, env=servers) as up:
            flower = urlsplit(str(up.ready()["flower_url"]))
            at_once = client.send(client.sessions.create(user_id="ada"), "hi")
            assert wait_until(
                lambda: _shown(flower) == {*ids(waiting), *ids([at_once])}, timeout=SOON
            )

            (worker,) = up.workers()
            os.kill(worker.pid, signal.SIGKILL)
            after = client.send(client.sessions.create(user_id="ada"), "hi")
            after.result(timeout=SOON)
            assert wait_until(lambda: str(after.id) in _shown(flower), timeout=SOON)
            _, err = up.stop()
    log = home / "logs" / "worker1.log"
    said = f"worker1 was ended by SIGKILL; starting it again (restart 1); its log: {log}"
    assert said in err.splitlines()


def ids(turns: list[Turn]) -> set[str]:
    return {str(turn.id) for turn in turns}


def _shown(flower: SplitResult) -> set[str]:
    """Return the turns that Flower shows as answered."""
    with urllib.request.urlopen(asked(flower, "/api/tasks?limit=1000"), timeout=10) as response:
        tasks = json.load(response)
    return {one for one, task in tasks.items() if task["state"] == "SUCCESS"}


def test_a_postgres_that_was_killed_comes_back_at_the_same_url(running: tuple[Up, Line]) -> None:
    up, line = running
    owner_url = (up.home / ROLE_FILES["owner"]).read_text()
    query(owner_url, "CREATE SCHEMA ours")
    query(owner_url, "CREATE TABLE ours.kept AS SELECT 7 AS n")
    postgres = next(p for p in up.descendants() if p.argv and p.argv[0].endswith("/postgres"))

    os.kill(postgres.pid, signal.SIGKILL)

    assert wait_until(lambda: answers(line["database_url"]), timeout=SOON)
    assert query(owner_url, "SELECT n FROM ours.kept") == [(7,)]


def test_roles_for_one_errand_stand_beside_it_and_are_found_by_those_who_want_them(
    running: tuple[Up, Line],
) -> None:
    up, line = running
    urls = {}
    for role in ("viewer", "producer", "auditor", "analyst"):
        path = up.home / ROLE_FILES[role]
        assert path.stat().st_mode & 0o777 == 0o600
        urls[role] = path.read_text()
        assert query(urls[role], "SELECT current_user") == [(f"turnmill_{role}",)]
    with client_of(line) as client:
        session = client.sessions.create(user_id="ada", provider="mock", model="m")
        client.budgets.set(limit_usd=5, user_id="ada")
        client.budgets.remove(user_id="ada")
    settings = Settings(database_url=urls["producer"], broker_url=str(line["broker_url"]))
    with Client(settings=settings) as producer:
        assert producer.send(session, "hi").result(timeout=20).text
        with pytest.raises(AccessDenied):
            producer.sessions.archive(session)
    terminal = Terminal(up.home.parent, {"TURNMILL_HOME": str(up.home)})
    shown = terminal.run("env", "--role", "producer", "--json").json()
    assert shown["TURNMILL_DATABASE_URL"] == urls["producer"]
    found = terminal.run("audit", "ls", "--json").lines()
    assert {"budget.set", "budget.removed"} <= {one["action"] for one in found}
    settings = settings_of_home({"TURNMILL_HOME": str(up.home)})
    assert role_urls_of_home(settings, {}).auditor == urls["auditor"]


def client_of(line: Line) -> Client:
    return Client(database_url=str(line["database_url"]), broker_url=str(line["broker_url"]))


@pytest.mark.slow
def test_term_and_kill_leave_no_process_and_what_was_accepted_is_answered_after_the_next_start(
    home: Path,
) -> None:
    env = {"TURNMILL_MOCK_LATENCY": "600", "TURNMILL_GRACE": "1"}
    with Up(home, env=env) as up, client_of(up.ready()) as client:
        session = client.sessions.create(user_id="ada", provider="mock", model="m")
        turn = client.send(session, "Are you there?")
        assert wait_until(lambda: turn.refresh().state is TurnState.RUNNING, timeout=SOON)
        rest, _ = up.stop(signal.SIGTERM)
        assert (up.popen.returncode, rest, up.survivors()) == (0, "", [])
    with Up(home) as up, client_of(up.ready()) as client:
        assert client.turns.get(turn.id).result(timeout=SOON).text
        up.stop(signal.SIGKILL)
        assert wait_until(lambda: not up.survivors(), timeout=GONE_WITHIN)
    with Up(home) as up, client_of(up.ready()) as client:
        history = client.sessions.history(session.id)
        assert [message.role for message in history] == ["user", "assistant"]
        up.stop(signal.SIGINT)
        assert up.survivors() == []


@pytest.mark.long
def test_servers_named_by_variables_replace_the_embedded_ones(
    home: Path, servers: dict[str, str]
) -> None:
    login = {"TURNMILL_FLOWER_AUTH": "ada:se:cret"}
    with Up(home, env=servers | login) as up:
        line = up.ready()
        programs = {Path(p.argv[0]).name for p in up.descendants() if p.argv}

    assert line["database_url"] == servers["TURNMILL_DATABASE_URL"]
    assert line["broker_url"] == servers["TURNMILL_BROKER_URL"]
    assert str(line["flower_url"]).startswith("http://ada:se%3Acret@127.0.0.1:")
    assert programs.isdisjoint({"postgres", "valkey-server"})


@pytest.mark.slow  # five starts of a worker; with a script: tests/unit/test_stack_watch.py
def test_a_worker_that_cannot_start_ends_up_with_the_tail_of_its_log(
    home: Path, servers: dict[str, str]
) -> None:
    broken = {"TURNMILL_LAYERS": "nobody"}
    with Up(home, env=servers | broken) as up:
        out, err = up.popen.communicate(timeout=60)

    assert up.popen.returncode == 1
    assert out == ""
    assert "worker1 died 5 times" in err
    assert "TURNMILL_LAYERS" in err


def listening(pid: int) -> set[str]:
    """Return the IPv4 and IPv6 addresses that a process listens on; none, where it has ended."""
    inodes, found = set(), set()
    with suppress(*_HAS_ENDED):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # it was closed meanwhile
                target = os.readlink(descriptor)
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and fields[9] in inodes:
                    found.add(_address(fields[1].partition(":")[0]))
    return found


def _address(text: str) -> str:
    if len(text) != 8:
        return text
    return socket.inet_ntoa(struct.pack("<I", int(text, 16)))
