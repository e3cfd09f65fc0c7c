"""`turnmill doctor` names the cause of each misconfiguration, what mends it, and exits by it."""

import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import redis
from celery.app.control import Control

from tests.acceptance.examining import BROKER, SECRET, URL, Place, examined, wrong
from tests.acceptance.terminal import Terminal
from turnmill.wire import ACCOUNTS_CHANNEL
from turnmill_worker.stack import ports

LONGEST = 11.0


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


_USE = "GRANT USAGE ON SCHEMA turnmill TO doctors_role"
_READ = "GRANT SELECT ON ALL TABLES IN SCHEMA turnmill TO doctors_role"

_WORK = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA turnmill TO doctors_role"

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
    "no functions": Case(
        role(_USE, _WORK, "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA turnmill FROM PUBLIC"),
        *("schema", "privilege", "turnmill migrate --runtime-role", 12),
    ),
    "no sequences": Case(
        role(_USE, _WORK, "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA turnmill TO doctors_role"),
        *("schema", "privilege", "turnmill migrate --runtime-role", 12),
    ),
    "hidden rows": Case(
        role(_USE, _WORK, "ALTER TABLE turnmill.turns ENABLE ROW LEVEL SECURITY"),
        *("schema", "row_security", "DISABLE ROW LEVEL SECURITY", 12),
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
    "broker: too few replicas": Case(
        lambda place: place.configure(min_replicas_to_write="1"),
        *("broker", "too_few_replicas", "min-replicas-to-write", 13),
    ),
    "broker: ACL": Case(not_permitted, "broker", "not_permitted", "docs/connections.md", 13),
    "broker: no such URL": Case(
        setting(**{BROKER: "http://127.0.0.1"}), "broker", "invalid_setting", "redis://", 13
    ),
    "no number": Case(setting(TURNMILL_LEASE="soon"), "settings", "invalid_setting", "seconds", 10),
    "flower without password": Case(
        setting(TURNMILL_FLOWER_AUTH="admin"), "flower", "invalid_setting", "user:password", 10
    ),
}


@pytest.fixture
def nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no answer where none would come: it takes a second."""
    monkeypatch.setattr(Control, "broadcast", lambda *_, **__: [])


@pytest.mark.usefixtures("nobody_answers")
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


@pytest.mark.usefixtures("nobody_answers")
def test_a_broker_url_that_says_nothing_is_one_fault(place: Place, tmp_path: Path) -> None:
    said = examined(tmp_path, place.environment | {BROKER: "nonsense"})
    assert [one["check"] for one in wrong(said)] == ["broker"]
    [workers] = [one for one in said.json()["findings"] if one["check"] == "workers"]
    assert workers["level"] == "skipped"


@pytest.mark.usefixtures("nobody_answers")
def test_workers_that_have_another_broker_are_not_taken_for_none(
    place: Place, tmp_path: Path
) -> None:
    def said() -> tuple[int, list[str]]:
        found = examined(tmp_path, place.environment)
        return found.code, [one["code"] for one in wrong(found) if one["check"] == "workers"]

    assert said() == (14, ["none"])
    with psycopg.connect(place.database_url, autocommit=True) as worker:
        worker.execute(f"LISTEN {ACCOUNTS_CHANNEL}")
        assert said() == (14, ["another_broker"])
    assert said() == (14, ["none"])


@pytest.mark.usefixtures("nobody_answers")
def test_without_the_database_nothing_is_said_of_who_asks_for_a_provider(
    place: Place, tmp_path: Path
) -> None:
    place.environment["OPENAI_API_KEY"] = ""
    database(host=nobody())(place)
    said = examined(tmp_path, place.environment)
    told = [one["what"] for one in said.json()["findings"] if one["check"] == "providers"]
    assert any(one.startswith("mock: can be used; by whom is not known") for one in told)
    assert not [one for one in told if "session" in one]


@pytest.mark.usefixtures("nobody_answers")
def test_production_is_told_of_everything_that_it_refuses_at_once(
    place: Place, tmp_path: Path
) -> None:
    unsafe = {
        "TURNMILL_PROFILE": "production",
        URL: "postgresql://ada:ada@db.invalid/x",
        BROKER: "redis://cache.invalid/0",
        "OPENAI_BASE_URL": "http://proxy.invalid",
        "TURNMILL_MOCK_LATENCY": "1",
    }
    said = examined(tmp_path, place.environment | unsafe)
    refused = [one for one in wrong(said) if one["code"] == "unsafe_setting"]
    for variable in [*list(unsafe)[1:], "TURNMILL_ENCRYPTION_KEYS"]:
        assert any(one["what"].startswith(variable) for one in refused), variable
        assert any(variable in one["fix"] or "unset" in one["fix"] for one in refused)
    assert said.code == 10


@pytest.mark.usefixtures("nobody_answers")
def test_a_misspelt_variable_is_noted_and_is_nothing_wrong(place: Place, tmp_path: Path) -> None:
    said = examined(tmp_path, place.environment | {"TURNMILL_CONCURENCY": "5"})
    assert [one["what"] for one in said.json()["findings"] if one["code"] == "misspelt"] == [
        "TURNMILL_CONCURENCY is read by nothing: is TURNMILL_CONCURRENCY meant?"
    ]
    assert "misspelt" not in [one["code"] for one in wrong(said)]


@pytest.mark.long
def test_servers_that_take_connections_and_never_answer_hold_nobody_up(tmp_path: Path) -> None:
    with ExitStack() as stack:
        holes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        first, second = (f"127.0.0.1:{hole.getsockname()[1]}" for hole in holes)
        environment = {URL: f"postgresql://ada:{SECRET}@{first}/x", BROKER: f"redis://{second}/0"}
        began = time.monotonic()
        said = examined(tmp_path, environment)
        assert time.monotonic() - began < LONGEST
    assert [(one["check"], one["code"]) for one in wrong(said)] == [
        ("database", "timeout"),
        ("broker", "no_answer"),
    ]
    assert said.code == 11


@pytest.mark.usefixtures("nobody_answers")
def test_a_finding_is_one_line_in_a_pipe_with_its_remedy(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database(path="/nowhere")(place)
    monkeypatch.delenv("COLUMNS", raising=False)  # it makes a pipe as narrow as it says
    said = Terminal(tmp_path, place.environment).run("doctor")
    [line] = [line for line in said.out.splitlines() if line.startswith("✗ database")]
    assert "there is no such database on the server" in line
    assert "→ check the name in TURNMILL_DATABASE_URL" in line
