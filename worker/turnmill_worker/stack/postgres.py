"""Postgres from the wheel's or the system's programs: loopback only, scram password, own data."""

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from turnmill.store import server
from turnmill_worker.stack import account, binaries, environments, logfile, ports, refuge
from turnmill_worker.stack.account import Account
from turnmill_worker.stack.errors import DidNotStart
from turnmill_worker.stack.process import Program
from turnmill_worker.stack.server import EmbeddedServer

#: The superuser, who makes the roles; what runs and migrates does so as one of these.
USER = DATABASE = "turnmill"
OWNER, RUNTIME, VIEWER = "turnmill_owner", "turnmill_app", "turnmill_viewer"
PRODUCER, AUDITOR, ANALYST = "turnmill_producer", "turnmill_auditor", "turnmill_analyst"
#: By what the home's files call them; the runtime role's URL stands in the ready line.
LOGINS = MappingProxyType(
    {
        "owner": OWNER,
        "viewer": VIEWER,
        "producer": PRODUCER,
        "auditor": AUDITOR,
        "analyst": ANALYST,
    }
)

_LIMIT = Path("/sys/fs/cgroup/memory.max")
_INITDB_TIMEOUT = timedelta(seconds=60)

_SETTINGS = {
    "listen_addresses": ports.LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "max_wal_size": "2GB",  # fewer checkpoints under load
    "jit": "off",  # our statements are short; compiling them costs more than it gives
    # A failing statement, its parameters and the DETAIL of its error can hold what a user wrote.
    # The log keeps what the server says of itself.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}

_FEWEST_MB, _MOST_MB = 128, 512  #: of its buffers
_READS_ASIDE = "18"  #: the first version that has processes read for others


def buffers_mb(memory_mb: int) -> int:
    """Return how much the server keeps of its tables: the histories of some ten thousand sessions.

    An eighth of the memory, within bounds. With 128 MB a bulk turn takes a tenth more.
    """
    return min(max(memory_mb // 8, _FEWEST_MB), _MOST_MB)


def _memory_mb() -> int:
    """Return what this machine has, or its group may take."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):  # "max": as much as there is
        found = min(found, int(_LIMIT.read_text()))
    return found // 2**20


class EmbeddedPostgres(EmbeddedServer):
    """A Postgres of its own in `home`, with an empty database `turnmill`.

    With `fsync=False` a crash of the machine may lose data, a crash of the server does not:
    for tests.
    """

    name: ClassVar[str] = "postgres"
    usual_port: ClassVar[int] = 5442

    def __init__(self, home: Path, *, port: int | None = None, fsync: bool = True) -> None:
        super().__init__(home, port=port)
        self._fsync = fsync
        self._account = account.for_postgres()
        self._password = self.home.secret("postgres")
        self._postgres: Path | None = None

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """Return the superuser's URL of another database on this server."""
        return f"postgresql://{USER}:{self._password}@{ports.LOOPBACK}:{self.port}/{database}"

    def url_as(self, role: str) -> str:
        """Return the URL of the database `turnmill` for a role; a server of before has none yet."""
        password = self.home.secret(role)
        return f"postgresql://{role}:{password}@{ports.LOOPBACK}:{self.port}/{DATABASE}"

    @property
    def data(self) -> Path:
        """Where the data are: in the home, unless the user of Postgres cannot reach it."""
        elsewhere = self.home.remembered("data-folder")
        return (self.home.path if elsewhere is None else Path(elsewhere)) / "postgres"

    def prepare(self) -> None:
        found = binaries.find_postgres()
        if self._account is None:
            self._postgres = found.path
        else:
            self._postgres = refuge.reachable_postgres(found, self._account)
            self._find_reachable_place(self._account)
        if not self.data.exists():
            self._initdb(self._postgres.with_name("initdb"))

    def _program(self) -> Program:
        if self._postgres is None:
            self.prepare()
        buffers = buffers_mb(_memory_mb()) if self._fsync else _FEWEST_MB
        settings = {**_SETTINGS, "port": str(self.port), "shared_buffers": f"{buffers}MB"}
        if not self._fsync:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        if (self.data / "PG_VERSION").read_text().strip() >= _READS_ASIDE:
            # What its buffers lack is mostly in the kernel's: to fetch it is less work than to ask
            # another process for it.
            settings["io_method"] = "sync"
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return Program(
            name=self.name,
            argv=(str(self._postgres), "-D", str(self.data), *options),
            log=self.home.log(self.name),
            env=environments.plain(os.environ),
            cwd=Path("/"),
            account=self._account,
            # "Fast": ends the connections, writes a checkpoint, leaves.
            stop_signal=signal.SIGINT,
            hurry_signal=signal.SIGQUIT,
            orphan_signal=signal.SIGINT,
        )

    def is_ready(self) -> bool:
        return server.answers(self.url_of("postgres"))

    def welcome(self) -> None:
        """Make the database `turnmill`."""
        super().welcome()
        server.create_database(self.url_of("postgres"), DATABASE)

    def _find_reachable_place(self, account: Account) -> None:
        if self.home.remembered("data-folder") is None and not account.can_enter(self.home.path):
            self.home.remember("data-folder", str(refuge.new_data_folder(account)))

    def _initdb(self, initdb: Path) -> None:
        """Make the data folder; it appears complete or not at all."""
        for unfinished in self.data.parent.glob("initdb-*"):  # of a run that was killed
            shutil.rmtree(unfinished)
        with tempfile.TemporaryDirectory(dir=self.data.parent, prefix="initdb-") as folder:
            work = Path(folder)
            password = work / "password"
            password.write_text(self._password)
            password.chmod(0o600)
            if self._account is not None:
                for path in (work, password):
                    os.chown(path, self._account.uid, self._account.gid)
            self._run_initdb(initdb, data=work / "data", password=password)
            shutil.move(work / "data", self.data)

    def _run_initdb(self, initdb: Path, *, data: Path, password: Path) -> None:
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"]
        log = self.home.log("initdb")
        with logfile.open_for_child(log) as output:
            done = subprocess.run(
                [initdb, "-D", data, "-U", USER, f"--pwfile={password}", *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environments.plain(os.environ),
                cwd="/",
                timeout=_INITDB_TIMEOUT.total_seconds(),
                check=False,
                **(self._account.popen_arguments() if self._account else {}),
            )
        if done.returncode != 0:
            raise DidNotStart("initdb failed", log_tail=logfile.tail(log))
