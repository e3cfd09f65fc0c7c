"""Servers of the matrix: a PgBouncer, a Postgres of any version, with TLS and on a socket."""

import os
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar
from unittest.mock import patch
from urllib.parse import urlsplit

import psycopg

from turnmill_worker.stack import account, binaries, ports
from turnmill_worker.stack.postgres import EmbeddedPostgres
from turnmill_worker.stack.process import Program
from turnmill_worker.stack.server import EmbeddedServer

PGBOUNCER = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"


class PgBouncer(EmbeddedServer):
    """A pooler before a Postgres: it takes the same user, and passes every database on."""

    name: ClassVar[str] = "pgbouncer"
    usual_port: ClassVar[int] = 6442

    def __init__(
        self, home: Path, *, before: str, pool_mode: str, settings: Mapping[str, str] | None = None
    ) -> None:
        """`before` is the URL of any database on the server."""
        super().__init__(home, port=0)
        self._before = before
        self._settings = {"pool_mode": pool_mode, "default_pool_size": "20", **(settings or {})}
        self._account = account.for_postgres()

    @property
    def url(self) -> str:
        return self.past(self._before)

    def past(self, url: str) -> str:
        """Return the URL of a database by way of the pooler."""
        parts = urlsplit(url)
        login = parts.netloc.rpartition("@")[0]
        return parts._replace(netloc=f"{login}@{ports.LOOPBACK}:{self.port}").geturl()

    def let_in(self, user: str, password: str) -> None:
        """Have the pooler know a user. Before it starts."""
        with self._users.open("a") as file:
            file.write(f'"{user}" "{password}"\n')

    def prepare(self) -> None:
        server = urlsplit(self._before)
        self.let_in(server.username or "", server.password or "")
        settings = {
            "listen_addr": ports.LOOPBACK,
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": str(self._users),
            "max_client_conn": "500",
            **self._settings,
        }
        lines = ["[databases]", f"* = host={server.hostname} port={server.port}", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in settings.items()]
        self._file.write_text("\n".join([*lines, ""]))
        for path in (self._file, self._users):
            path.chmod(0o644)

    @property
    def _file(self) -> Path:
        return self.home.path / "pgbouncer.ini"

    @property
    def _users(self) -> Path:
        return self.home.path / "users.txt"

    def _program(self) -> Program:
        with_port = self._file.read_text().replace(
            "[pgbouncer]\n", f"[pgbouncer]\nlisten_port = {self.port}\n"
        )
        running = self.home.path / "running.ini"
        running.write_text(with_port)
        return Program(
            name=self.name,
            argv=(PGBOUNCER, str(running)),
            log=self.home.log(self.name),
            cwd=Path("/"),
            account=self._account,
        )

    def is_ready(self) -> bool:
        try:
            socket.create_connection((ports.LOOPBACK, self.port), timeout=1).close()
        except OSError:
            return False
        return True


class ChosenPostgres(EmbeddedPostgres):
    """A Postgres from a program of one's choice, with more settings."""

    def __init__(
        self, home: Path, *, program: Path | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(home, port=0, fsync=False)
        self._chosen = program
        self._more = settings or {}

    def prepare(self) -> None:
        if self._chosen is None:
            super().prepare()
            return
        chosen = binaries.Binary(self._chosen, binaries.Source.WHEEL)
        with patch.object(binaries, "find_postgres", lambda: chosen):
            super().prepare()

    def _program(self) -> Program:
        program = super()._program()
        more = [part for name, value in self._more.items() for part in ("-c", f"{name}={value}")]
        return replace(program, argv=(*program.argv, *more))


def pgbouncer_version() -> str:
    """Return what the program calls itself: `1.18.0`."""
    if not os.access(PGBOUNCER, os.X_OK):
        return "(none)"
    said = subprocess.run([PGBOUNCER, "--version"], capture_output=True, text=True, check=False)
    return said.stdout.split()[1]


class Standby(ChosenPostgres):
    """A second Postgres that follows another one, until it is promoted."""

    def __init__(self, home: Path, *, of: EmbeddedPostgres) -> None:
        super().__init__(home)
        self._password = of._password  # roles come with the data
        self._primary = of.url

    def promote(self) -> None:
        """Have it take writes; returns when it does."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")

    def welcome(self) -> None:
        EmbeddedServer.welcome(self)  # it has the databases of the other one

    def _run_initdb(self, initdb: Path, *, data: Path, password: Path) -> None:
        copy = (initdb.with_name("pg_basebackup"), "-D", data, "-R", "-X", "stream")
        subprocess.run(
            [*copy, "--checkpoint=fast", "-d", self._primary],
            check=True,
            capture_output=True,
            timeout=60,
            cwd="/",
            **(self._account.popen_arguments() if self._account else {}),
        )
