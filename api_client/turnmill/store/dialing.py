"""How connections to Postgres begin, and what is known of each: a server or a pooler answers it."""

import time
from collections.abc import Iterable, Mapping
from math import inf
from types import MappingProxyType
from typing import Any

from sqlalchemy import URL, Connection, Engine, event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry

from turnmill.connections.postgres import Address, effective
from turnmill.store.refusals import drop_spoiled

#: Of explicit transactions, in their BEGIN: no pooler between us and the server can lose that.
ISOLATION = "READ COMMITTED"

# Without sequential scans: the server keeps the plans of its foreign-key checks as long as the
# connection, and on a young store, whose tables are a page long, it would plan to read all of them
# for each row. Where no index serves a statement, it still reads the table.
#: What a connection begins with, and, behind a pooler that drops that, what a role does.
SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "statement_timeout": "30s",
        "lock_timeout": "5s",
        "idle_in_transaction_session_timeout": "60s",
        "TimeZone": "UTC",
        "jit": "off",
        "enable_seqscan": "off",
    }
)
# What a database or a role may set otherwise, and what our statements cannot do without: they read
# a row anew after they have waited for it, and the driver reads one form of dates only.
PINNED: Mapping[str, str] = MappingProxyType(
    {
        "default_transaction_isolation": "read committed",
        "DateStyle": "ISO",
        "IntervalStyle": "postgres",
    }
)
# For those who run the same few statements on and on. The server would plan a claim anew each time:
# it takes an array of unknown length for ten elements, and so prefers the plan for the one it sees.
# Not for statements whose conditions on states are parameters: no partial index would serve them.
_GENERIC_PLANS = MappingProxyType({"plan_cache_mode": "force_generic_plan"})

#: Of a connection that is kept to be told something: a server that ends what stands idle for some
#: time would end it again and again. Not with the others, which are asked before they are used.
KEPT_IDLE = (
    "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'"
)

#: Where the URL, the environment or the service says nothing else.
_USUAL = MappingProxyType(
    {
        "connect_timeout": "5",
        "keepalives_idle": "10",
        "keepalives_interval": "5",
        "keepalives_count": "3",
        "tcp_user_timeout": "20000",
    }
)

_TRUSTED_SECONDS = 1.0  #: a connection that was used since then is taken to stand
_PINNED_KEY, _POOLED_KEY = "turnmill_pinned", "turnmill_pooled"
#: PgBouncer knows its clients by numbers of its own: it gives them out for those of the server.
_LOOK = "SELECT pg_backend_pid(), current_setting('default_transaction_isolation')"
_NO_OPTIONS = "unsupported startup parameter"


class _Readers:
    """What psycopg asks for the loaders of a connection."""

    connection = None

    @property
    def adapters(self) -> Any:
        from turnmill.store.lenient import ADAPTERS  # noqa: PLC0415

        return ADAPTERS


def connect_args(address: Address, *, generic_plans: bool = False) -> dict[str, Any]:
    """Return what a connection to Postgres begins with; what the caller says wins over ours."""
    theirs = effective(address)
    options = (
        _as_options({**SETTINGS, **(_GENERIC_PLANS if generic_plans else {})}),
        theirs.get("options", ""),
        _as_options(PINNED),
    )
    return {
        **{name: theirs.get(name, value) for name, value in _USUAL.items()},
        "fallback_application_name": "turnmill",
        **address.keywords,
        **address.driver,
        "client_encoding": "utf8",
        "options": " ".join(filter(None, options)),
        "context": _Readers(),
    }


def engine_url(address: Address) -> URL:
    """Return the URL for SQLAlchemy; libpq's lists of hosts and ports are parameters there."""
    rest = dict(address.keywords)
    user, password, database = (rest.pop(name, None) for name in ("user", "password", "dbname"))
    return URL.create(
        "postgresql+psycopg", username=user, password=password, database=database, query=rest
    )


def dial(engine: Engine, address: Address) -> None:
    """Have the engine's connections begin as they should, and be known for what they are."""
    event.listen(engine, "do_connect", _Dialer(optional=not effective(address).get("options")))
    event.listen(engine, "connect", _Look(keep_threshold=bool(address.driver)))


def tend(engine: Engine, address: Address) -> None:
    """Look after the connections of a pool, from the first to the last moment."""
    dial(engine, address)
    ping_the_idle(engine)
    drop_spoiled(engine)


def is_pinned(conn: Connection) -> bool:
    """Tell whether a statement without a BEGIN is READ COMMITTED on this connection."""
    return bool(conn.info.get(_PINNED_KEY))


def is_pooled(conn: Connection) -> bool:
    """Tell whether a pooler answers: each transaction may be another server connection's."""
    return bool(conn.info.get(_POOLED_KEY))


def ping_the_idle(engine: Engine) -> None:
    """Ask a connection that was idle for a second whether it still stands, before it is used.

    SQLAlchemy's own `pool_pre_ping` asks every time: half of what a `send` waits for. Whoever meets
    a server that went away within that second gets StoreUnavailable, as in the middle of a query.
    """

    def note(_connection: object, record: ConnectionPoolEntry) -> None:
        record.info["idle_since"] = time.monotonic()

    def ping(connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
        if time.monotonic() - record.info.get("idle_since", inf) < _TRUSTED_SECONDS:
            return
        try:
            stands = engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error:
            stands = False
        if not stands:
            raise InvalidatePoolError("the server has gone away meanwhile")

    event.listen(engine, "checkin", note)
    event.listen(engine, "checkout", ping)


def _as_options(settings: Mapping[str, str]) -> str:
    """Return settings as libpq's `options` wants them."""
    return " ".join(f"-c {name}={_escaped(value)}" for name, value in settings.items())


def _escaped(value: str) -> str:
    return value.replace(" ", r"\ ")


class _Dialer:
    """Connects, and leaves our options out where a pooler takes none: see `role_settings`."""

    def __init__(self, *, optional: bool) -> None:
        """`optional` unless the caller has asked for options, too."""
        self._optional = optional
        self._refused = False

    def __call__(
        self, dialect: Any, _record: object, given: Iterable[Any], named: dict[str, Any]
    ) -> Any:
        if self._refused:
            named = _without_options(named)
        try:
            return dialect.connect(*given, **named)
        except dialect.loaded_dbapi.OperationalError as error:
            if self._refused or not self._optional or _NO_OPTIONS not in str(error):
                raise
        connection = dialect.connect(*given, **_without_options(named))
        self._refused = True
        return connection


class _Look:
    """Looks at a new connection once, in the transaction that a driver begins with anyway."""

    def __init__(self, *, keep_threshold: bool) -> None:
        self._keep_threshold = keep_threshold

    def __call__(self, connection: Any, record: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute(_LOOK)
        pid, isolation = cursor.fetchone()
        cursor.close()
        connection.rollback()
        driver: Any = record.driver_connection
        pooled = pid != driver.info.backend_pid
        record.info[_POOLED_KEY] = pooled
        # Of a pooler's connections the next one may be set otherwise, or the same one by others.
        record.info[_PINNED_KEY] = not pooled and isolation == "read committed"
        if pooled and not self._keep_threshold:
            driver.prepare_threshold = None  # a statement is prepared on one of them only


def _without_options(named: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in named.items() if name != "options"}
