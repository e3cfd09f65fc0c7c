"""Why a broker cannot be used: what redis-py, kombu and py-amqp raise, in words of one kind."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_DEPTH = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """What stands in the way. Nothing of it is quoted from an error, which may hold a password."""

    code: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return self.what


def cause_of(error: BaseException) -> Cause:
    """Return why; an error that nobody knows is named by its class."""
    said = "\n".join(f"{type(one).__name__}: {one}" for one in _chain(error))
    for pattern, cause in _CAUSES:
        if found := re.search(pattern, said, re.IGNORECASE):
            return _with_command(cause, found)
    name = type(error).__name__
    return Cause(code="unknown", what=name, remedy="the log of the server tells more")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it was made from."""
    one: BaseException | None = error
    for _ in range(_DEPTH):
        if one is None:
            return
        yield one
        one = one.__cause__ or one.__context__


def _with_command(cause: Cause, found: re.Match[str]) -> Cause:
    """Name the command that was refused, where the server says so."""
    command = found.groupdict().get("command")
    if not command:
        return cause
    what = f"{cause.what}: {command.upper()}"
    return Cause(code=cause.code, what=what, remedy=cause.remedy)


def _cause(code: str, what: str, remedy: str) -> Cause:
    return Cause(code=code, what=what, remedy=remedy)


NO_PRIMARY = "no_primary"
_URL = "TURNMILL_BROKER_URL"

#: Looked through in this order: what is certain first, what many faults look like last.
_CAUSES: tuple[tuple[str, Cause], ...] = (
    (
        r"No master found.*- auth:",
        _cause(
            "wrong_sentinel_password",
            "its Sentinels refuse user or password",
            f"&sentinel_password=… in {_URL}: the one before the @ is the server's",
        ),
    ),
    (
        r"No master found|MasterNotFound",
        _cause(
            NO_PRIMARY,
            "no Sentinel answers that knows a primary of that name",
            f"check hosts and master_name in {_URL}; a fail-over takes seconds",
        ),
    ),
    (
        r"hostname mismatch|ip address mismatch|doesn't match|not valid for",
        _cause(
            "certificate_of_another_name",
            "its certificate is for another name",
            f"the host in {_URL} has to be a name that the certificate holds",
        ),
    ),
    (
        r"certificate has expired|not yet valid",
        _cause("certificate_out_of_date", "its certificate is out of date", "renew it"),
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|self.signed certificate|unable to get local issuer",
        _cause(
            "certificate_not_trusted",
            "its certificate is signed by nobody who is trusted here",
            f"?ssl_ca_certs=FILE in {_URL}, with the certificate of its authority",
        ),
    ),
    (
        r"certificate.required|bad certificate|handshake failure|TLSV\d+_ALERT|SSLV3_ALERT",
        _cause(
            "tls_refused",
            "it refuses our side of TLS",
            f"?ssl_certfile=…&ssl_keyfile=… in {_URL}, if it asks for a certificate",
        ),
    ),
    (
        r"WRONG_VERSION_NUMBER|record layer failure|UNEXPECTED_EOF|SSLEOFError|SSLError",
        _cause(
            "no_tls_there",
            "no TLS is spoken there",
            f"the port for TLS in {_URL}, or a scheme without TLS",
        ),
    ),
    (
        r"No such file or directory|FileNotFoundError",
        _cause("no_such_file", "a file or a socket does not exist", f"check the paths in {_URL}"),
    ),
    (
        r"Name or service not known|nodename nor servname|name resolution|gaierror|"
        r"No address associated|Error -[2-5] connecting",
        _cause(
            "host_unknown",
            "the name of its host cannot be resolved",
            f"check the host in {_URL}, and the DNS",
        ),
    ),
    (
        r"Connection refused|ConnectionRefusedError|Error 111|Errno 111",
        _cause(
            "refused",
            "nobody listens there (connection refused)",
            f"start it, or check host and port in {_URL}",
        ),
    ),
    (
        r"No route to host|Network is unreachable|Host is unreachable",
        _cause("no_route", "no way leads to its host", "check the network and its firewalls"),
    ),
    (
        r"WRONGPASS|invalid username-password|invalid password|Login was refused|"
        r"ACCESS_REFUSED - Login",
        _cause(
            "wrong_password",
            "user or password is wrong",
            f"check user and password in {_URL}; odd characters are percent-encoded",
        ),
    ),
    (
        r"without any password configured",
        _cause(
            "no_password_there",
            "it was given a password and has none itself",
            f"requirepass on the server, or no password in {_URL}",
        ),
    ),
    (
        r"NOAUTH|Authentication required|HELLO must be called with the client already",
        _cause(
            "password_missing",
            "it asks for a password, and none was given",
            f"redis://:password@host:6379/0 in {_URL}",
        ),
    ),
    (
        r"no permissions to run the '(?P<command>[\w|]{1,40})'",
        _cause(
            "not_permitted",
            "its ACL does not permit a command",
            "docs/connections.md has ACLs for each part",
        ),
    ),
    (
        r"NOPERM|NoPermissionError|no permissions",
        _cause(
            "not_permitted",
            "its ACL does not permit these keys or channels",
            "docs/connections.md has ACLs for each part",
        ),
    ),
    (
        r"vhost .*not found|NOT_ALLOWED - vhost",
        _cause("no_such_vhost", "it has no such virtual host", "rabbitmqctl add_vhost NAME"),
    ),
    (
        r"ACCESS_REFUSED|AccessRefused|NotAllowed|access to vhost",
        _cause(
            "not_permitted",
            "the user may not do this in its virtual host",
            "rabbitmqctl set_permissions -p VHOST USER '.*' '.*' '.*'",
        ),
    ),
    (
        r"inequivalent arg|PRECONDITION_FAILED|PreconditionFailed",
        _cause(
            "queue_differs",
            "a queue exists with another type or other arguments",
            "delete it (hints in it may be lost), or set queue_type in the URL to its type",
        ),
    ),
    (
        r"CROSSSLOT|MOVED \d|CLUSTERDOWN",
        _cause(
            "cluster",
            "it is a node of a Redis Cluster",
            "use one Redis, or Sentinels: docs/connections.md",
        ),
    ),
    (
        r"DB index is out of range",
        _cause("no_such_database", "it has no database of that number", f"/0 in {_URL}"),
    ),
    (
        r"protected mode",
        _cause("protected", "it takes connections from its own host only", "give it a password"),
    ),
    (
        r"max number of clients|connection_limit|ResourceError|RESOURCE_LOCKED",
        _cause("full", "it takes no more connections", "raise its maxclients"),
    ),
    (r"BusyLoading|LOADING", _cause("starting", "it is loading its data", "wait for it")),
    (
        r"READONLY|ReadOnlyError|UNBLOCKED",
        _cause(
            "read_only", "it is a replica and takes no writes", "name the primary, or Sentinels"
        ),
    ),
    (
        r"MISCONF",
        _cause("no_disk", "it cannot save to its disk and takes no writes", "make room there"),
    ),
    (
        r"NOREPLICAS",
        _cause(
            "too_few_replicas",
            "it takes no writes while so few replicas follow it",
            "bring its replicas back, or lower its min-replicas-to-write",
        ),
    ),
    (r"OutOfMemory|OOM ", _cause("no_memory", "its memory is full", "raise its maxmemory")),
    (
        r"WRONGTYPE",
        _cause("not_a_queue", "a queue's key holds something else", "delete that key"),
    ),
    (
        r"Blocked",
        _cause("blocked", "it blocks publishers: disk or memory run low", "make room there"),
    ),
    (
        r"Permission denied|PermissionError",
        _cause("no_access", "a file or a socket may not be opened", "check its owner and mode"),
    ),
    (
        r"timed out|TimeoutError|Timeout (?:reading|connecting)",
        _cause(
            "no_answer",
            "no answer in time",
            "a firewall, a server that hangs, or a port without TLS under a URL with TLS",
        ),
    ),
    (
        r"Connection closed|closed by server|unexpectedly closed|reset by peer|Socket closed|"
        r"Broken pipe|ConnectionReset|IncompleteRead|ConnectionForced|InvalidResponse|"
        r"Protocol Error",
        _cause(
            "closed",
            "it closes the connection",
            "another protocol may be spoken there (TLS?), or it is being shut down",
        ),
    ),
)
