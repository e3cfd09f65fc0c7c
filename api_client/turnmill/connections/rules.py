"""What the production profile asks of every server that is dialled: one table, whoever dials."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from ipaddress import ip_address
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from turnmill.connections.broker_urls import read_broker_url, read_stream_url
from turnmill.connections.brokers import Broker, Kind
from turnmill.connections.passfile import has_password
from turnmill.domain.errors import UnsafeSetting


class Encryption(IntEnum):
    """How well a connection is kept from others."""

    NONE = 0
    UNVERIFIED = 1  #: whoever is on the way can answer in the server's name
    VERIFIED = 2  #: the certificate, and the name in it


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialled:
    """A server as it would really be dialled, with what comes from environment and files."""

    setting: str  #: to change
    hosts: tuple[str, ...]  #: all that may be tried; a path is a socket on this machine
    encryption: Encryption
    safe: str  #: how it would be written
    asks_password: bool = True
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def is_here(self) -> bool:
        """Tell whether no byte leaves this machine."""
        return all(map(_is_here, self.hosts))

    @property
    def is_socket(self) -> bool:
        """Tell whether the system says who dials."""
        return all(not host or host.startswith(("/", "@")) for host in self.hosts)


@dataclass(frozen=True, slots=True)
class Rule:
    """What must not be."""

    broken_by: Callable[[Dialled], bool]
    what: str
    hint: str  #: `{safe}` is how it would be written, `{setting}` where


RULES: tuple[Rule, ...] = (
    Rule(
        lambda one: not one.is_here and one.encryption is Encryption.NONE,
        "leads to another host without TLS",
        "use {safe} in {setting}",
    ),
    Rule(
        lambda one: not one.is_here and one.encryption is Encryption.UNVERIFIED,
        "leads to another host and does not verify who answers there:"
        " anybody on the way could read and change everything",
        "use {safe} in {setting}",
    ),
    Rule(
        lambda one: one.asks_password and not one.password and not one.is_socket,
        "names no password",
        "give the server one, and name it in {setting}",
    ),
    Rule(
        lambda one: bool(one.password) and is_guessed(one.user, one.password),
        "has a password that everybody tries first",
        "set another one on the server and in {setting}: `openssl rand -hex 24` makes one",
    ),
)

#: What is in the environment for the library that reaches a bucket, by the scheme of its URL.
BUCKETS: Mapping[str, str] = MappingProxyType(
    {"s3": "AWS", "s3a": "AWS", "gs": "GOOGLE", "az": "AZURE", "azure": "AZURE"}
)
_ENDPOINTS = ("ENDPOINT", "ENDPOINT_URL", "ENDPOINT_URL_S3", "STORAGE_ENDPOINT")
_NO = ("", "0", "false", "no", "off", "n", "f")
#: Where a server is that only others can name.
_ANYWHERE = "?"

# fmt: off
_GUESSES = frozenset({
    "postgres", "guest", "turnmill", "redis", "valkey", "rabbitmq", "rabbit", "celery",
    "flower", "password", "passw0rd", "pass", "admin", "administrator", "root", "secret",
    "changeme", "change-me", "change_me", "default", "foobared", "test", "testing", "example",
    "user", "username", "qwerty", "letmein", "1234", "12345", "123456", "12345678", "123456789",
    "0000", "sentinel",
})
# fmt: on
_DEV_HINT = ", or TURNMILL_PROFILE=development"


def unsafe(servers: Iterable[Dialled]) -> Iterator[UnsafeSetting]:
    """Yield an error for each server and rule that it breaks, naming the setting to change."""
    for server in servers:
        for rule in RULES:
            if rule.broken_by(server):
                hint = rule.hint.format(safe=server.safe, setting=server.setting.split(",")[0])
                yield UnsafeSetting(f"{server.setting} {rule.what}", hint=hint + _DEV_HINT)


def refuse_unsafe(servers: Iterable[Dialled]) -> None:
    """Raise UnsafeSetting for the first one that breaks a rule."""
    for refused in unsafe(servers):
        raise refused


def is_guessed(user: str, password: str) -> bool:
    """Tell whether a login is one that comes with the product, or is tried first."""
    tried = password.strip().lower()
    return not tried or tried in _GUESSES or tried == user.lower()


def of_database(setting: str, url: str, environ: Mapping[str, str]) -> Iterator[Dialled]:
    """Yield the Postgres of a URL, as libpq would dial it; nothing for SQLite."""
    if not url.lower().startswith("postgres"):
        return
    from turnmill.connections.postgres import Address, effective, read  # noqa: PLC0415

    keywords = read(url).keywords
    handed_in = {} if environ is os.environ else _libpqs_own(environ)
    # libpq looks into the environment of the process by itself, after the service.
    said = effective(Address({**handed_in, **keywords}))
    beside = {**_libpqs_own(os.environ), **handed_in}
    yield Dialled(
        setting=setting + _beside(keywords, said, beside),
        hosts=_hosts_of(said),
        encryption=_SSL_MODES.get(said.get("sslmode", ""), Encryption.NONE),
        safe="?sslmode=verify-full",
        asks_password=not _proves_otherwise(said),
        user=said.get("user", ""),
        password=said.get("password", ""),
    )


def of_broker(setting: str, url: str) -> Iterator[Dialled]:
    """Yield the broker of a URL."""
    broker = read_broker_url(url)
    if broker.kind is Kind.MEMORY:
        return
    asked = Dialled(
        setting=setting,
        hosts=_hosts_of_broker(broker),
        encryption=_encryption(broker),
        safe=_SAFE_BROKERS[broker.kind],
        user=broker.username,
        password=broker.password,
    )
    yield asked
    if broker.sentinel_password:  # in the way of TLS they are as the server itself
        user, password = broker.sentinel_username, broker.sentinel_password
        yield replace(asked, encryption=Encryption.VERIFIED, user=user, password=password)


def of_stream(setting: str, url: str) -> Iterator[Dialled]:
    """Yield the Redis that streams are carried by: what is said goes there, for minutes."""
    read_stream_url(url)
    yield from of_broker(setting, url)


def of_http(setting: str, url: str) -> Iterator[Dialled]:
    """Yield the server of an HTTP API, which is given a key and everything that users write."""
    try:
        parts = urlsplit(url.strip())
        host = parts.hostname or _ANYWHERE
    except ValueError:
        parts, host = urlsplit(""), _ANYWHERE
    yield Dialled(
        setting=setting,
        hosts=(host,),
        encryption=Encryption.VERIFIED if parts.scheme == "https" else Encryption.NONE,
        safe="https://",
        asks_password=False,
    )


def of_bucket(url: str, environ: Mapping[str, str]) -> Iterator[Dialled]:
    """Yield the servers of a bucket, which is given all files, as its library is told to dial."""
    prefix = BUCKETS.get(url.partition(":")[0].lower())
    if prefix is None:
        return
    allow = f"{prefix}_ALLOW_INVALID_CERTIFICATES"
    is_verified = environ.get(allow, "").strip().lower() in _NO
    names = (f"{prefix}_{one}" for one in _ENDPOINTS)
    named = [name for name in names if environ.get(name)]
    for name in named:
        yield from of_http(name, environ[name])
    if not is_verified and not (named and all(_is_local(environ[name]) for name in named)):
        yield Dialled(
            setting=allow,
            hosts=(_ANYWHERE,),
            encryption=Encryption.UNVERIFIED,
            safe="false",
            asks_password=False,
        )


def _is_local(url: str) -> bool:
    return all(server.is_here for server in of_http("", url))


def is_loopback(host: str) -> bool:
    """Tell whether a host's name or address is this machine's own, without asking anybody."""
    if host.lower().removesuffix(".") == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


_SSL_MODES = MappingProxyType(
    {
        "require": Encryption.UNVERIFIED,
        "verify-ca": Encryption.UNVERIFIED,  # any name that its authority ever signed
        "verify-full": Encryption.VERIFIED,
    }
)
_SAFE_BROKERS = MappingProxyType(
    {
        Kind.REDIS: "rediss://, without ssl_cert_reqs and ssl_check_hostname,",
        Kind.SENTINEL: "&ssl=true, without ssl_cert_reqs and ssl_check_hostname,",
        Kind.RABBITMQ: "amqps://, without ssl_cert_reqs and ssl_check_hostname,",
    }
)
#: Where libpq finds what a URL does not say.
_PG_VARIABLES = MappingProxyType(
    {
        "host": "PGHOST",
        "hostaddr": "PGHOSTADDR",
        "sslmode": "PGSSLMODE",
        "user": "PGUSER",
        "password": "PGPASSWORD",
        "passfile": "PGPASSFILE",
        "sslcert": "PGSSLCERT",
        "service": "PGSERVICE",
    }
)


def _libpqs_own(environ: Mapping[str, str]) -> dict[str, str]:
    found = {name: environ.get(variable) for name, variable in _PG_VARIABLES.items()}
    return {name: value for name, value in found.items() if value}


def _beside(keywords: Mapping[str, str], said: Mapping[str, str], beside: Mapping[str, str]) -> str:
    """Return what has a say in it beside the URL, to be shown after the name of the setting."""
    found = ["a service"] if said.get("service") else []
    found += [
        variable
        for name, variable in _PG_VARIABLES.items()
        if name in beside and name not in keywords and said.get(name) == beside[name]
    ]
    return f", with {' and '.join(found)} beside it," if found else ""


def _proves_otherwise(said: Mapping[str, str]) -> bool:
    """Tell whether libpq has a certificate to show, or finds a password in its file."""
    certificate = said.get("sslcert")
    if certificate and Path(certificate).expanduser().is_file():
        return True
    return has_password(Path(said.get("passfile") or "~/.pgpass").expanduser(), said)


def _hosts_of_broker(broker: Broker) -> tuple[str, ...]:
    if broker.socket:
        return (broker.socket,)
    hosts = tuple(one.host for one in broker.places)
    # Where the server is, its Sentinels say, and they may be the only ones that are here.
    return (*hosts, _ANYWHERE) if broker.kind is Kind.SENTINEL else hosts


def _encryption(broker: Broker) -> Encryption:
    if broker.tls is None:
        return Encryption.NONE
    return Encryption.VERIFIED if broker.tls.verifies else Encryption.UNVERIFIED


def _hosts_of(said: Mapping[str, str]) -> tuple[str, ...]:
    """Return the hosts in libpq's order: each one's address where it has one, or its name."""
    names, addresses = (said.get(one, "").split(",") for one in ("host", "hostaddr"))
    pairs = zip_longest(addresses, names, fillvalue="")
    return tuple(address or name for address, name in pairs)


def _is_here(host: str) -> bool:
    return not host or host.startswith(("/", "@")) or is_loopback(host)
