"""`turnmill doctor` names the cause of each misconfiguration, what mends it, and exits by it."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import redis
from celery import Celery
from sqlalchemy import update

from tests import rows, steps
from tests.acceptance.terminal import Said, Terminal
from tests.chaos.system import Servers, System
from tests.conftest import fresh_database
from turnmill import __version__
from turnmill.cli.doctor import workers
from turnmill.domain.states import Lane, TurnState
from turnmill.store.database import Database
from turnmill.store.line.pauses import LANE, PROVIDER, pause, resume
from turnmill.store.nouns import sessions
from turnmill.store.schema.revision import HEAD
from turnmill.store.schema.tables import job_runs
from turnmill.store.schema.tables import sessions as session_rows
from turnmill.store.schema.tables import turns as turn_rows
from turnmill.wire import ABOUT
from turnmill_worker.stack import ports
from turnmill_worker.stack.postgres import EmbeddedPostgres

SECRET = "hunter2-hunter2"
AGO = timedelta(hours=3)


@dataclass
class Place:
    """Servers that work, of which a seed spoils something; `with_` is undone afterwards."""

    postgres: EmbeddedPostgres
    database_url: str
    broker_url: str
    undo: ExitStack
    environment: dict[str, str] = field(default_factory=dict)

    def sql(self, *statements: str) -> None:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def configure(self, **settings: str) -> None:
        """Set what the broker is to do until the test is over."""
        client = self.undo.enter_context(redis.Redis.from_url(self.broker_url))
        for name, value in settings.items():
            option = name.replace("_", "-")
            before = client.config_get(option)[option]
            client.config_set(option, value)
            self.undo.callback(client.config_set, option, before)


def changed(url: str, *, login: str = "", host: str = "", path: str = "", query: str = "") -> str:
    """Return the URL with parts of it exchanged."""
    parts = urlsplit(url)
    before, _, at = parts.netloc.rpartition("@")
    netloc = f"{login or before}@{host or at}" if login or before else host or at
    return urlunsplit((parts.scheme, netloc, path or parts.path, query or parts.query, ""))


def database(**parts: str) -> Callable[[Place], None]:
    def seed(place: Place) -> None:
        place.environment["TURNMILL_DATABASE_URL"] = changed(place.database_url, **parts)

    return seed


def broker(**parts: str) -> Callable[[Place], None]:
    def seed(place: Place) -> None:
        place.environment["TURNMILL_BROKER_URL"] = changed(place.broker_url, **parts)

    return seed


def nobody() -> str:
    return f"127.0.0.1:{ports.choose(0)}"


def read_only(place: Place) -> None:
    name = urlsplit(place.database_url).path[1:]
    place.sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')


def without_tables(place: Place) -> None:
    place.environment["TURNMILL_DATABASE_URL"] = place.postgres.url_of("postgres")


def of_revision(revision: str) -> Callable[[Place], None]:
    def seed(place: Place) -> None:
        place.sql(f"UPDATE turnmill.schema_version SET version_num = '{revision}'")

    return seed


def role(*grants: str) -> Callable[[Place], None]:
    def seed(place: Place) -> None:
        place.sql(f"CREATE ROLE doctors_role LOGIN PASSWORD '{SECRET}'", *grants)
        place.undo.callback(
            place.sql, "DROP OWNED BY doctors_role CASCADE", "DROP ROLE doctors_role"
        )
        database(login=f"doctors_role:{SECRET}")(place)

    return seed


def replica(place: Place) -> None:
    client = place.undo.enter_context(redis.Redis.from_url(place.broker_url))
    client.replicaof("127.0.0.1", ports.choose(0))
    place.undo.callback(client.replicaof, "NO", "ONE")


def evicting(place: Place) -> None:
    place.configure(maxmemory_policy="allkeys-lru")
    place.environment["TURNMILL_PROFILE"] = "production"


def full(place: Place) -> None:
    place.configure(maxmemory="1", maxmemory_policy="noeviction")


def without_login(place: Place) -> None:
    place.environment["TURNMILL_BROKER_URL"] = place.broker_url.replace(
        urlsplit(place.broker_url).netloc.rpartition("@")[0] + "@", ""
    )


def not_permitted(place: Place) -> None:
    client = place.undo.enter_context(redis.Redis.from_url(place.broker_url))
    client.acl_setuser(
        "doctors", enabled=True, passwords=[f"+{SECRET}"], keys="*", commands=["+@all", "-lpush"]
    )
    place.undo.callback(client.acl_deluser, "doctors")
    broker(login=f"doctors:{SECRET}")(place)


def setting(**variables: str) -> Callable[[Place], None]:
    def seed(place: Place) -> None:
        place.environment |= variables

    return seed


@dataclass(frozen=True)
class Case:
    """Something that is wrong, and what is to be said of it."""

    seed: Callable[[Place], None]
    check: str
    code: str
    fix: str  #: a part of the remedy
    exit_code: int


URL, BROKER = "TURNMILL_DATABASE_URL", "TURNMILL_BROKER_URL"
_USE = "GRANT USAGE ON SCHEMA turnmill TO doctors_role"
_READ = "GRANT SELECT ON ALL TABLES IN SCHEMA turnmill TO doctors_role"

SERVERS: Mapping[str, Case] = {
    "wrong password": Case(database(login=f"turnmill:{SECRET}"), "database", "password", URL, 11),
    "no such role": Case(database(login=f"nobody:{SECRET}"), "database", "password", URL, 11),
    "no such database": Case(database(path="/nowhere"), "database", "database", URL, 11),
    "closed port": Case(database(host=nobody()), "database", "refused", URL, 11),
    "no socket": Case(
        setting(**{URL: "postgresql:///x?host=/nowhere"}), "database", "refused", "start", 11
    ),
    "unresolvable": Case(database(host="nowhere.invalid"), "database", "unresolvable", URL, 11),
    "no TLS": Case(database(query="sslmode=require"), "database", "tls", "ssl = on", 11),
    "no certificate": Case(
        database(query="sslmode=verify-full&sslrootcert=/nowhere.pem"),
        *("database", "certificate", "sslrootcert", 11),
    ),
    "read-only": Case(read_only, "database", "read_only", "default_transaction_read_only", 11),
    "unknown parameter": Case(
        database(query="ssl_mode=require"), "database", "invalid_setting", "", 11
    ),
    "no tables": Case(without_tables, "schema", "no_schema", "turnmill migrate", 12),
    "old tables": Case(of_revision("0001"), "schema", "schema_older", "turnmill migrate", 12),
    "new tables": Case(of_revision("9999"), "schema", "schema_newer", "install", 12),
    "no grants": Case(role(), "schema", "privilege", "turnmill migrate --runtime-role", 12),
    "read grants": Case(
        role(_USE, _READ), "schema", "privilege", "turnmill migrate --runtime-role", 12
    ),
    "broker: wrong password": Case(
        broker(login=f":{SECRET}"), "broker", "wrong_password", BROKER, 13
    ),
    "broker: no password": Case(without_login, "broker", "password_missing", BROKER, 13),
    "broker: closed port": Case(broker(host=nobody()), "broker", "refused", BROKER, 13),
    "broker: unresolvable": Case(
        broker(host="nowhere.invalid"), "broker", "host_unknown", BROKER, 13
    ),
    "broker: a Postgres": Case(
        lambda place: broker(host=urlsplit(place.database_url).netloc.rpartition("@")[2])(place),
        *("broker", "closed", "protocol", 13),
    ),
    "broker: replica": Case(replica, "broker", "read_only", "primary", 13),
    "broker: full": Case(full, "broker", "no_memory", "maxmemory", 13),
    "broker: ACL": Case(not_permitted, "broker", "not_permitted", "docs/connections.md", 13),
    "broker: no such URL": Case(
        setting(**{BROKER: "http://127.0.0.1"}), "broker", "invalid_setting", "redis://", 13
    ),
    "no number": Case(setting(TURNMILL_LEASE="soon"), "settings", "invalid_setting", "seconds", 10),
    "flower without password": Case(
        setting(TURNMILL_FLOWER_AUTH="admin"), "flower", "invalid_setting", "user:password", 10
    ),
    "no worker": Case(lambda _: None, "workers", "none", "turnmill worker", 14),
}


@pytest.fixture
def place(postgres_server: EmbeddedPostgres, database_url: str, broker_url: str) -> Iterator[Place]:
    with ExitStack() as undo:
        environment = {URL: database_url, BROKER: broker_url}
        yield Place(postgres_server, database_url, broker_url, undo, environment)


@pytest.fixture(autouse=True)
def ask_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of a test are on this machine: they answer at once."""
    monkeypatch.setattr(workers, "_ASK_SECONDS", 0.3)


def examined(folder: Path, environment: Mapping[str, str]) -> Said:
    said = Terminal(folder, environment).run("doctor", "--json")
    assert SECRET not in said.out + said.err
    return said


def wrong(said: Said) -> list[dict[str, str]]:
    return [one for one in said.json()["findings"] if one["level"] == "wrong"]


@pytest.mark.parametrize("name", SERVERS)
def test_each_fault_of_a_server_or_setting_has_its_cause_remedy_and_exit_code(
    name: str, place: Place, tmp_path: Path
) -> None:
    case = SERVERS[name]
    case.seed(place)
    said = examined(tmp_path, place.environment)
    fixes = {(one["check"], one["code"]): one["fix"] for one in wrong(said)}
    assert case.fix in fixes[case.check, case.code]
    assert said.code == said.json()["exit_code"] == case.exit_code
