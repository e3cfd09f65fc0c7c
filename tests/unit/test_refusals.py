"""What the database's refusals mean: by their codes, never by words, and without quoting a row."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.exc import DataError, DBAPIError, OperationalError

from turnmill.domain.errors import (
    AccessDenied,
    SchemaOutOfDate,
    SessionBusy,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    Unstorable,
)
from turnmill.store.refusals import meaning_of, store_error

CANARY = "nobody-may-ever-read-this"
_STATEMENT = f"INSERT INTO messages VALUES ('{CANARY}')"

MEANINGS: dict[str, type[StoreError]] = {
    "08000": StoreUnavailable,
    "08006": StoreUnavailable,
    "08P01": StoreUnavailable,
    "0A000": StoreUnavailable,
    "21000": Unstorable,
    "22001": Unstorable,
    "22003": Unstorable,
    "22P02": Unstorable,
    "22P05": Unstorable,
    "23502": Unstorable,
    "23503": Unstorable,
    "23505": Unstorable,
    "23514": Unstorable,
    "25006": StoreReadOnly,
    "25P02": StoreError,
    "25P03": StoreUnavailable,
    "25P04": StoreUnavailable,
    "26000": StoreUnavailable,
    "28000": AccessDenied,
    "28P01": AccessDenied,
    "3D000": AccessDenied,
    "3F000": SchemaOutOfDate,
    "40001": SessionBusy,
    "40002": Unstorable,
    "40003": StoreUnavailable,
    "40P01": SessionBusy,
    "42501": AccessDenied,
    "42703": SchemaOutOfDate,
    "42P01": SchemaOutOfDate,
    "53100": StoreFull,
    "53200": StoreFull,
    "53300": StoreFull,
    "53400": StoreFull,
    "54000": Unstorable,
    "54001": Unstorable,
    "55006": StoreUnavailable,
    "55P03": SessionBusy,
    "57014": StoreUnavailable,
    "57P01": StoreUnavailable,
    "57P02": StoreUnavailable,
    "57P03": StoreUnavailable,
    "57P04": AccessDenied,
    "57P05": StoreUnavailable,
    "58030": StoreUnavailable,
    "72000": SessionBusy,
    "P0001": Unstorable,
    "XX000": StoreUnavailable,
    "XX001": StoreError,
    "ZZ123": StoreError,
}


def refused(state: str) -> StoreError:
    """Return our error for one with this SQLSTATE, which quotes a row as Postgres does."""
    cause = psycopg.Error(f"DETAIL: Failing row contains ({CANARY})")
    cause.sqlstate = state
    return store_error(DBAPIError(_STATEMENT, {"text": CANARY}, cause))


@pytest.mark.parametrize(("state", "kind"), MEANINGS.items())
def test_a_sqlstate_or_its_class_decides_what_a_refusal_is(
    state: str, kind: type[StoreError]
) -> None:
    error = refused(state)
    assert type(error) is kind
    assert state in str(error)


def test_no_refusal_that_postgres_knows_quotes_a_row() -> None:
    for state in psycopg.errors._sqlcodes:
        error = refused(state)
        assert CANARY not in str(error) + error.hint + repr(vars(error))


@pytest.mark.parametrize(
    ("said", "reason", "kind"),
    [
        ('password authentication failed for user "ada"', "password", AccessDenied),
        ("FATAL: SASL authentication failed", "password", AccessDenied),
        ("fe_sendauth: no password supplied", "password", AccessDenied),
        ('no pg_hba.conf entry for host "10.0.0.1", user "ada"', "pg_hba", AccessDenied),
        ('pg_hba.conf rejects connection for host "10.0.0.1"', "pg_hba", AccessDenied),
        ("connection requires a valid client certificate", "client_certificate", AccessDenied),
        ('role "ada" does not exist', "role", AccessDenied),
        ('role "ada" is not permitted to log in', "role", AccessDenied),
        ('database "nix" does not exist', "database", AccessDenied),
        ("no such database: nix", "database", AccessDenied),
        ('permission denied for database "nix"', "privilege", AccessDenied),
        ("sorry, too many clients already", "connections", StoreFull),
        ('too many connections for role "few"', "connections", StoreFull),
        ("remaining connection slots are reserved for roles with the", "connections", StoreFull),
        ("no more connections allowed (max_client_conn)", "connections", StoreFull),
        ("the database system is starting up", "starting", StoreUnavailable),
        ("the database system is in recovery mode", "starting", StoreUnavailable),
        ("the database system is not yet accepting connections", "starting", StoreUnavailable),
        ("the database system is shutting down", "stopping", StoreUnavailable),
        ("session is read-only", "read_only", StoreReadOnly),
        ("session is not read-only", "target", StoreUnavailable),
        ("unsupported startup parameter: options", "pooler", StoreUnavailable),
        ("unsupported startup parameter in options: jit", "pooler", StoreUnavailable),
        ("query_wait_timeout", "pooler", StoreFull),
        ("client_login_timeout (server down)", "pooler", StoreUnavailable),
        ("server login has been failing, try again later", "pooler", StoreUnavailable),
        (
            "transaction blocks not allowed in statement pooling mode",
            "statement_mode",
            AccessDenied,
        ),
        ("failed to resolve host 'ada.test': [Errno -2]", "unresolvable", StoreUnavailable),
        ('could not translate host name "ada" to address', "unresolvable", StoreUnavailable),
        ("Connection refused", "refused", StoreUnavailable),
        ("No such file or directory", "refused", StoreUnavailable),
        ("connection timeout expired", "timeout", StoreUnavailable),
        ("No route to host", "timeout", StoreUnavailable),
        ("SSL error: certificate verify failed", "certificate", StoreUnavailable),
        (
            'server certificate for "localhost" does not match host name "ada"',
            "certificate",
            StoreUnavailable,
        ),
        ('root certificate file "/home/ada" does not exist', "certificate", StoreUnavailable),
        ("server does not support SSL, but SSL was required", "tls", StoreUnavailable),
        ("received invalid response to SSL negotiation: H", "tls", StoreUnavailable),
        ('invalid port number: "99999"', "url", AccessDenied),
    ],
)
def test_a_connection_that_is_refused_says_why_and_what_helps(
    said: str, reason: str, kind: type[StoreError]
) -> None:
    cause = psycopg.OperationalError(f'connection to server at "db", port 1 failed: FATAL:  {said}')
    error = store_error(OperationalError(None, None, cause))
    assert (type(error), error.reason) == (kind, reason)
    assert error.hint
    assert "ada" not in f"{error} {error.hint}".replace("database", "")


def test_of_several_hosts_the_one_that_answered_tells_why() -> None:
    said = """Multiple connection attempts failed. All failures were:
        - host: 'one', port: '1', hostaddr: '::1': connection failed: Connection refused
        - host: 'two', port: '2', hostaddr: '::1': FATAL:  password authentication failed"""
    error = store_error(OperationalError(None, None, psycopg.OperationalError(said)))
    assert error.reason == "password"


def test_a_refusal_in_another_language_is_a_database_out_of_reach() -> None:
    cause = psycopg.OperationalError("FATAL:  Passwort-Authentifizierung fehlgeschlagen")
    assert type(store_error(OperationalError(None, None, cause))) is StoreUnavailable


def test_a_value_that_the_driver_cannot_send_is_unstorable() -> None:
    cause = psycopg.DataError(f"cannot contain NUL: {CANARY}")
    error = store_error(DataError(_STATEMENT, {}, cause))
    assert type(error) is Unstorable
    assert CANARY not in str(error)


@pytest.mark.parametrize("state", ["25006", "0A000", "26000", "42P05"])
def test_a_connection_that_would_go_on_refusing_is_given_up(state: str) -> None:
    assert meaning_of(state).spoils


def full(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA max_page_count = 2")
        file.execute("CREATE TABLE a (b)")
        file.execute("INSERT INTO a VALUES (zeroblob(100000))")


def read_only(path: Path) -> None:
    sqlite3.connect(path).close()
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
        file.execute("CREATE TABLE a (b)")


def no_database(path: Path) -> None:
    path.write_text(CANARY * 100)
    with closing(sqlite3.connect(path)) as file:
        file.execute("SELECT * FROM a")


def no_folder(path: Path) -> None:
    sqlite3.connect(path / "missing" / "a.db")


def locked(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as one:
        one.execute("BEGIN IMMEDIATE")
        with closing(sqlite3.connect(path, timeout=0)) as other:
            other.execute("BEGIN IMMEDIATE")


def twice(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE a (b UNIQUE)")
        file.execute("INSERT INTO a VALUES (?), (?)", (CANARY, CANARY))


def damaged(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE a (b)")
        file.executemany("INSERT INTO a VALUES (?)", [(CANARY * 40,)] * 100)
        file.commit()
    content = bytearray(path.read_bytes())
    content[4096 : len(content)] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with closing(sqlite3.connect(path)) as file:
        file.execute("SELECT * FROM a").fetchall()


def no_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.execute("SELECT * FROM a")


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        (full, StoreFull, "SQLITE_FULL"),
        (read_only, StoreReadOnly, "SQLITE_READONLY"),
        (no_database, StoreError, "SQLITE_NOTADB"),
        (no_folder, AccessDenied, "SQLITE_CANTOPEN"),
        (locked, SessionBusy, "SQLITE_BUSY"),
        (twice, Unstorable, "SQLITE_CONSTRAINT"),
        (damaged, StoreError, "SQLITE_CORRUPT"),
        (no_table, SchemaOutOfDate, "migrated"),
    ],
)
def test_sqlite_says_the_same_by_its_codes(
    tmp_path: Path, fault: Callable[[Path], None], kind: type[StoreError], says: str
) -> None:
    with pytest.raises(sqlite3.Error) as caught:
        fault(tmp_path / "turns.db")
    error = store_error(DBAPIError(_STATEMENT, {}, caught.value))
    assert type(error) is kind
    assert says in str(error)
    assert CANARY not in str(error)
