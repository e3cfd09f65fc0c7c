"""Why a connection to Postgres was not made, told from the words of libpq, servers and poolers.

While it connects, libpq keeps the SQLSTATE to itself: the words tell it, where a server speaks
English. What they do not tell is a database out of reach, which is as true.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from turnmill.domain.errors import (
    AccessDenied,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
)


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a refusal comes to."""

    kind: type[StoreError]  #: says whether trying again makes sense
    words: str = ""  #: where the class does not say it all
    hint: str | None = None
    spoils: bool = False  #: the connection will go on refusing: the next caller gets a new one
    reason: str = ""  #: see `StoreError.reason`
    sqlstate: str = ""  #: where words stand for it


CONNECTIONS = "raise max_connections or the role's CONNECTION LIMIT, or run fewer processes"
_URL = "TURNMILL_DATABASE_URL"
_SERVER_LOG = "see the server's log"
_POOLER_LOG = "see the pooler's log"


def _m(reason: str, kind: type[StoreError], words: str, hint: str, sqlstate: str = "") -> Meaning:
    return Meaning(kind, words, hint, reason=reason, sqlstate=sqlstate)


#: Each host that was tried has its line, and so have a try with TLS and one without. The first one
#: here that fits any of them counts: what servers say comes before what the network says.
_SAID: Sequence[tuple[str, Meaning]] = (
    (
        r"statement pooling mode",
        _m(
            "statement_mode",
            AccessDenied,
            "the pooler works in statement mode, which has no transactions",
            "PgBouncer: pool_mode = transaction (or session) for this database",
            "08P01",
        ),
    ),
    (
        r"unsupported startup parameter",
        _m(
            "pooler",
            StoreUnavailable,
            "a pooler before the server takes no `options`",
            f"take options= out of {_URL}, or PgBouncer: ignore_startup_parameters = options",
            "08P01",
        ),
    ),
    (
        r"requires a valid client certificate|certificate authentication failed",
        _m(
            "client_certificate",
            AccessDenied,
            "the server asks for a client certificate",
            f"sslcert= and sslkey= in {_URL}",
            "28000",
        ),
    ),
    (
        r"no password supplied",
        _m(
            "password",
            AccessDenied,
            "the database server asks for a password, and none is given",
            f"user:password@ in {_URL}, PGPASSWORD, or a password file that is 0600",
            "28P01",
        ),
    ),
    (
        r"password authentication failed|SASL authentication failed|wrong password",
        _m(
            "password",
            AccessDenied,
            "the server refuses the password",
            f"check user and password in {_URL}; odd characters are percent-encoded: @ is %40",
            "28P01",
        ),
    ),
    (
        r"pg_hba\.conf|reject_hba|login rejected",
        _m(
            "pg_hba",
            AccessDenied,
            "the server does not let this role in from here",
            "its pg_hba.conf needs a line for this host, user, database and kind of encryption",
            "28000",
        ),
    ),
    (
        r"role \".*\" does not exist|no such user",
        _m(
            "role",
            AccessDenied,
            "there is no such role on the server",
            f"check the user in {_URL}, or CREATE ROLE … LOGIN",
            "28000",
        ),
    ),
    (
        r"not permitted to log in",
        _m("role", AccessDenied, "this role may not log in", "ALTER ROLE … LOGIN", "28000"),
    ),
    (
        r"database \".*\" does not exist|no such database",
        _m(
            "database",
            AccessDenied,
            "there is no such database on the server",
            f"check the name in {_URL}, or create it and run `turnmill migrate`",
            "3D000",
        ),
    ),
    (
        r"permission denied for database",
        _m(
            "privilege",
            AccessDenied,
            "this role may not do that in the database",
            "GRANT it CONNECT on the database",
            "42501",
        ),
    ),
    (
        r"too many connections|too many clients|connection slots|no more connections"
        r"|max_client_conn|max_db_client_connections",
        _m(
            "connections",
            StoreFull,
            "the server takes no more connections",
            CONNECTIONS,
            "53300",
        ),
    ),
    (
        r"pgbouncer cannot connect|\(server down\)|server login has been failing|server_login_retry"
        r"|server conn crashed|bouncer config error",
        _m(
            "pooler",
            StoreUnavailable,
            "the pooler answers, and does not get through to the server",
            _POOLER_LOG,
        ),
    ),
    (
        r"query_wait_timeout|client_login_timeout",
        _m(
            "pooler",
            StoreFull,
            "the pooler had no connection to the server free in time",
            "PgBouncer: raise default_pool_size, or run fewer processes",
        ),
    ),
    (
        r"database .*(is disabled|does not allow connections)|is (paused|suspended)",
        _m("pooler", StoreUnavailable, "the pooler has this database paused", "RESUME it there"),
    ),
    (
        r"not currently accepting connections",
        _m(
            "database",
            StoreUnavailable,
            "this database takes no connections now",
            "ALTER DATABASE … ALLOW_CONNECTIONS true",
            "55000",
        ),
    ),
    (
        r"pooler is shut(ting)? down|server shutting down|the database system is shutting down",
        _m("stopping", StoreUnavailable, "the server is being shut down", _SERVER_LOG, "57P03"),
    ),
    (
        r"the database system is (starting|in recovery|not)",
        _m(
            "starting",
            StoreUnavailable,
            "the server does not take connections yet",
            "it does once it has started; its log tells how far it is",
            "57P03",
        ),
    ),
    (
        r"session is not read-only|server is not in hot standby mode",
        _m(
            "target",
            StoreUnavailable,
            "none of the servers is of the kind that target_session_attrs asks for",
            f"target_session_attrs=read-write in {_URL}, for Turnmill writes",
        ),
    ),
    (
        r"session is read-only|server is in hot standby mode",
        _m(
            "read_only",
            StoreReadOnly,
            "none of the servers takes writes",
            "target_session_attrs asks for one that does: is there a primary?",
        ),
    ),
    (
        r"certificate .*does not match host name|certificate for .* does not match",
        _m(
            "certificate",
            StoreUnavailable,
            "the server's certificate is for another host name",
            f"the host in {_URL} has to be a name in the certificate",
        ),
    ),
    (
        r"certificate verify failed|self.signed certificate|unable to get local issuer"
        r"|certificate has expired",
        _m(
            "certificate",
            StoreUnavailable,
            "the server's certificate cannot be verified",
            f"sslrootcert= in {_URL}: the authority's certificate, or `system`",
        ),
    ),
    (
        r"root certificate file|could not (read|load) (root )?certificate|private key file"
        r"|could not load private key|weak sslmode",
        _m(
            "certificate",
            StoreUnavailable,
            "a certificate or key that the URL names cannot be used",
            "sslrootcert= is a file, or `system`; sslcert= and sslkey= are files, the key 0600",
        ),
    ),
    (
        r"does not support SSL|SSL was required|server refuses SSL",
        _m(
            "tls",
            StoreUnavailable,
            "the server speaks no TLS, and the URL asks for it",
            "ssl = on in postgresql.conf (PgBouncer: client_tls_sslmode)",
        ),
    ),
    (
        r"SSL error|SSL SYSCALL|tlsv1 alert|unsupported protocol|SSL negotiation|SSL required",
        _m("tls", StoreUnavailable, "TLS could not be agreed on", "see the server's log"),
    ),
    (
        r"received invalid (response|authentication)|expected authentication request"
        r"|unexpected message from server|invalid protocol",
        _m(
            "no_postgres",
            StoreUnavailable,
            "what answers there is no Postgres",
            f"check host and port in {_URL}",
        ),
    ),
    (
        r"failed to resolve host|could not translate host name",
        _m(
            "unresolvable",
            StoreUnavailable,
            "the name of the database's host cannot be resolved",
            f"check the host in {_URL}; a password's odd characters are to be encoded: @ is %40",
        ),
    ),
    (
        r"Permission denied",
        _m("privilege", AccessDenied, "the server's socket may not be opened", "see its folder"),
    ),
    (
        r"No such file or directory",
        _m(
            "refused",
            StoreUnavailable,
            "there is no socket of a database server in that folder",
            f"start the server, or check host= and the port in {_URL}",
        ),
    ),
    (
        r"Connection refused",
        _m(
            "refused",
            StoreUnavailable,
            "nothing listens at the database's host and port",
            f"start the server, or check host and port in {_URL}",
        ),
    ),
    (
        r"timeout expired|timed out|No route to host|Network is unreachable|is unreachable",
        _m(
            "timeout",
            StoreUnavailable,
            "no database server answers there in time",
            f"check host and port in {_URL}, and what filters the way to it",
        ),
    ),
    (
        r"invalid (port number|integer value)",
        _m(
            "url",
            AccessDenied,
            "a number in the database URL is none, or out of range",
            f"check the port in {_URL}, and its parameters",
        ),
    ),
    (
        r"server closed the connection unexpectedly|Connection reset",
        _m(
            "lost",
            StoreUnavailable,
            "the connection to the database was lost",
            _SERVER_LOG,
        ),
    ),
)


def meaning_said(words: str) -> Meaning | None:
    """Return what an error's words mean, or None where they are not known."""
    # Compiled when somebody is refused, and not when somebody imports.
    return next((meaning for said, meaning in _SAID if re.search(said, words)), None)
