"""What an error of a driver means: which of ours it is, in words that quote nothing of the rows."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from sqlalchemy import Engine, ExceptionContext, event
from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from turnmill.domain.errors import (
    AccessDenied,
    SchemaOutOfDate,
    SessionBusy,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    Unstorable,
    UserErased,
)
from turnmill.store.connecting import CONNECTIONS, Meaning, meaning_said

_POOLER = (
    "PgBouncer: max_prepared_statements above 0;"
    " another pooler: prepare_threshold=none in TURNMILL_DATABASE_URL"
)

#: By SQLSTATE, or by its class (the first two characters) where no line names it. What has no line
#: is a StoreError: nobody may take it for permanent, or for passing.
SQLSTATES: Mapping[str, Meaning] = MappingProxyType(
    {
        "08": Meaning(StoreUnavailable, "the connection to the database was lost"),
        "08P01": Meaning(
            StoreUnavailable,
            "the server, or a pooler before it, does not go on with this connection",
            hint="see the log of the pooler, or of the server",
        ),
        "0A000": Meaning(
            StoreUnavailable, "the tables were changed under an open connection", spoils=True
        ),
        "21": Meaning(Unstorable),
        "22": Meaning(Unstorable),
        "23": Meaning(Unstorable),
        "25006": Meaning(StoreReadOnly, spoils=True, reason="read_only"),
        "25P02": Meaning(
            StoreError, "an earlier statement of this transaction has failed", hint="roll it back"
        ),
        "25P03": Meaning(StoreUnavailable, "the server ended a transaction that stood idle"),
        "25P04": Meaning(StoreUnavailable, "the server ended a transaction that took too long"),
        "26000": Meaning(
            StoreUnavailable, "the server has lost a prepared statement", _POOLER, spoils=True
        ),
        "28": Meaning(AccessDenied, "the server does not let this role in"),
        "28P01": Meaning(
            AccessDenied,
            "the server refuses the password",
            hint="check user and password in TURNMILL_DATABASE_URL; odd characters are"
            " percent-encoded: @ is %40",
        ),
        "3D000": Meaning(
            AccessDenied,
            "there is no such database on the server",
            hint="check the name in TURNMILL_DATABASE_URL, or create it and run `turnmill migrate`",
        ),
        "3F000": Meaning(SchemaOutOfDate),
        "40": Meaning(SessionBusy, "another transaction was in the way; this one was undone"),
        "40002": Meaning(Unstorable),
        "40003": Meaning(StoreUnavailable, "nobody knows whether the statement was completed"),
        "42501": Meaning(
            AccessDenied,
            "this role may not do that in the database",
            hint="GRANT it SELECT, INSERT, UPDATE and DELETE on Turnmill's tables",
        ),
        "42703": Meaning(SchemaOutOfDate),
        "42704": Meaning(SchemaOutOfDate),
        "42P01": Meaning(SchemaOutOfDate),
        "42P05": Meaning(
            StoreUnavailable, "a prepared statement is another one's", _POOLER, spoils=True
        ),
        "42P10": Meaning(SchemaOutOfDate),
        "44": Meaning(Unstorable),
        "53": Meaning(StoreFull),
        "53100": Meaning(
            StoreFull, "the server has no disk space left", hint="make room; nothing is lost"
        ),
        "53200": Meaning(StoreFull, "the server has no memory left"),
        "53300": Meaning(
            StoreFull, "the server takes no more connections", CONNECTIONS, reason="connections"
        ),
        "54": Meaning(Unstorable, "a value is too large or too deep for the tables"),
        "55": Meaning(StoreUnavailable, "something in the database is not ready for that now"),
        "55P03": Meaning(SessionBusy),
        "57": Meaning(StoreUnavailable, "the server ended the statement"),
        "57014": Meaning(
            StoreUnavailable,
            "the statement took too long, or somebody ended it",
            hint="if it comes again: see statement_timeout, and what holds locks",
        ),
        "57P01": Meaning(StoreUnavailable, "the server is being shut down"),
        "57P02": Meaning(StoreUnavailable, "the server has crashed and comes up again"),
        "57P03": Meaning(StoreUnavailable, "the server does not take connections yet"),
        "57P04": Meaning(AccessDenied, "the database was dropped"),
        "57P05": Meaning(StoreUnavailable, "the server ended a connection that stood idle"),
        "58": Meaning(StoreUnavailable, "the server's system does not do as it should"),
        "72": Meaning(SessionBusy, "the statement took too long for its snapshot"),
        "P0001": Meaning(Unstorable, "a trigger in the database refuses this row"),
        "TM001": Meaning(UserErased),
        "XX": Meaning(StoreUnavailable, "the server reports an error of its own"),
        "XX001": Meaning(
            StoreError,
            "the server says that its data are damaged",
            hint="see the server's log; restore from a backup",
        ),
        "XX002": Meaning(
            StoreError,
            "the server says that an index is damaged",
            hint="see the server's log; REINDEX",
        ),
    }
)

#: By SQLite's code, or by the primary one of it.
SQLITE_CODES: Mapping[int, Meaning] = MappingProxyType(
    {
        sqlite3.SQLITE_AUTH: Meaning(AccessDenied),
        sqlite3.SQLITE_BUSY: Meaning(SessionBusy, "another process writes to the SQLite file"),
        sqlite3.SQLITE_CANTOPEN: Meaning(
            AccessDenied,
            "the SQLite file cannot be opened",
            hint="check that its folder is there, and who may write there",
        ),
        sqlite3.SQLITE_CONSTRAINT: Meaning(Unstorable),
        sqlite3.SQLITE_CONSTRAINT_TRIGGER: Meaning(UserErased),
        sqlite3.SQLITE_CORRUPT: Meaning(
            StoreError, "the SQLite file is damaged", hint="restore it from a backup"
        ),
        sqlite3.SQLITE_FULL: Meaning(
            StoreFull, "there is no room for the SQLite file", hint="make room; nothing is lost"
        ),
        sqlite3.SQLITE_INTERRUPT: Meaning(StoreUnavailable, "somebody ended the statement"),
        sqlite3.SQLITE_IOERR: Meaning(StoreUnavailable, "the disk does not do as it should"),
        sqlite3.SQLITE_LOCKED: Meaning(SessionBusy, "somebody writes to the SQLite tables"),
        sqlite3.SQLITE_MISMATCH: Meaning(Unstorable),
        sqlite3.SQLITE_NOMEM: Meaning(StoreFull, "there is no memory left"),
        sqlite3.SQLITE_NOTADB: Meaning(
            StoreError, "the file is no SQLite database", hint="check TURNMILL_DATABASE_URL"
        ),
        sqlite3.SQLITE_PERM: Meaning(AccessDenied, "the SQLite file cannot be opened"),
        sqlite3.SQLITE_PROTOCOL: Meaning(SessionBusy, "another process writes to the SQLite file"),
        sqlite3.SQLITE_RANGE: Meaning(Unstorable),
        sqlite3.SQLITE_READONLY: Meaning(
            StoreReadOnly,
            "the SQLite file cannot be written",
            hint="check the mode of the file and of its folder",
        ),
        sqlite3.SQLITE_SCHEMA: Meaning(StoreUnavailable, "the tables were changed meanwhile"),
        sqlite3.SQLITE_TOOBIG: Meaning(Unstorable),
    }
)


@contextmanager
def translated() -> Iterator[None]:
    """Turn a driver's error into ours: code and constraint only, for DETAIL quotes the row."""
    try:
        yield
    except DBAPIError as error:
        raise store_error(error) from None
    except (UnicodeEncodeError, OverflowError):
        raise Unstorable("a value cannot be handed to the database") from None
    except PoolTimeout:
        raise StoreUnavailable(
            "no database connection became free", hint="raise the pool size, or send less at once"
        ) from None


#: Where the words of an error tell more than its SQLSTATE: while connecting there is none.
_SAID_IN_WORDS = frozenset({None, "", "08P01"})


def store_error(error: DBAPIError) -> StoreError:
    """Return our error for a driver's, with no content in it."""
    if isinstance(error.orig, sqlite3.Error):
        return _of_sqlite(error.orig)
    state = getattr(error.orig, "sqlstate", None)
    # PgBouncer has one code for whatever it does not like.
    if isinstance(error, OperationalError) and state in _SAID_IN_WORDS:
        meaning = meaning_said(str(error.orig))
        if meaning is not None:
            return _made(meaning, f"sqlstate {meaning.sqlstate}" if meaning.sqlstate else "")
    if state:
        constraint = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
        about = f"sqlstate {state}" + (f", constraint {constraint}" if constraint else "")
        return _made(meaning_of(state), about)
    if error.connection_invalidated or isinstance(error, (OperationalError, InterfaceError)):
        return StoreUnavailable()
    if isinstance(error, DataError):
        return Unstorable("a value cannot be handed to the database")
    return StoreError("the database's driver refused")


def meaning_of(sqlstate: str) -> Meaning:
    """Return what the SQLSTATE means, by itself or by its class."""
    unknown = Meaning(StoreError, "the database refused")
    return SQLSTATES.get(sqlstate) or SQLSTATES.get(sqlstate[:2]) or unknown


def drop_spoiled(engine: Engine) -> None:
    """Give connections up that would go on refusing, though they stand.

    What a session may do is settled when it begins. A server that became writable again, or a new
    primary behind the same name, is met by new connections only.
    """

    def judge(context: ExceptionContext) -> None:
        state = getattr(context.original_exception, "sqlstate", None)
        if context.connection is not None and state and meaning_of(state).spoils:
            context.is_disconnect = True

    event.listen(engine, "handle_error", judge)


def _made(meaning: Meaning, about: str) -> StoreError:
    words = meaning.words or str(meaning.kind()).rstrip(".")
    error = meaning.kind(f"{words} ({about})" if about else words, hint=meaning.hint)
    error.reason = meaning.reason
    return error


#: What Python's module says, without a code, of a value that has no form there.
_UNBINDABLE = "Error binding parameter"


def _of_sqlite(error: sqlite3.Error) -> StoreError:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is None and str(error).startswith(_UNBINDABLE):
        return Unstorable("a value cannot be handed to the database")
    if code is None:
        return StoreError("SQLite's driver refused")
    if code == sqlite3.SQLITE_ERROR and str(error).startswith(("no such table", "no such column")):
        return SchemaOutOfDate()  # SQLite has no code for it
    unknown = Meaning(StoreError, "the database refused")
    meaning = SQLITE_CODES.get(code) or SQLITE_CODES.get(code & 0xFF, unknown)
    return _made(meaning, error.sqlite_errorname)
