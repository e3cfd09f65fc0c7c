"""A broker, and how it is named to kombu, redis-py and Flower, each in its own words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

_SOCKET_TIMES = ("socket_timeout", "socket_connect_timeout")


class Kind(StrEnum):
    """Who speaks there."""

    REDIS = "redis"  #: Redis or Valkey
    SENTINEL = "sentinel"  #: Sentinels, that know which Redis is the primary
    RABBITMQ = "rabbitmq"
    MEMORY = "memory"  #: kombu's, of one process


class CertReqs(StrEnum):
    """What becomes of a server's certificate, in redis-py's words."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    NONE = "none"


class QueueType(StrEnum):
    """What RabbitMQ makes of a queue of hints."""

    CLASSIC = "classic"
    QUORUM = "quorum"  #: kept by several nodes


@dataclass(frozen=True, slots=True)
class Address:
    """A host and its port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How the server's certificate is looked at, and what is shown of ours."""

    cert_reqs: CertReqs = CertReqs.REQUIRED
    check_hostname: bool = True
    ca_certs: str | None = None  #: None: those that the system trusts
    certfile: str | None = None
    keyfile: str | None = None

    @property
    def verifies(self) -> bool:
        """Tell whether nobody else can pass for the server."""
        return self.cert_reqs is CertReqs.REQUIRED and self.check_hostname

    def for_redis(self) -> dict[str, Any]:
        """Return it in redis-py's words, which kombu and Flower hand on to it."""
        return {
            "ssl_cert_reqs": self.cert_reqs.value,
            "ssl_check_hostname": self.check_hostname,
            "ssl_ca_certs": self.ca_certs,
            "ssl_certfile": self.certfile,
            "ssl_keyfile": self.keyfile,
        }

    def for_amqp(self) -> dict[str, Any]:
        """Return it in py-amqp's words. Where the key is there, kombu fills the host name in."""
        import ssl  # noqa: PLC0415  few clients need it

        said = {
            "cert_reqs": ssl.VerifyMode[f"CERT_{self.cert_reqs.upper()}"],
            "ca_certs": self.ca_certs,
            "certfile": self.certfile,
            "keyfile": self.keyfile,
        }
        return said | ({"server_hostname": None} if self.check_hostname else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Where the broker is, and how it is spoken to."""

    kind: Kind
    places: tuple[Address, ...] = ()
    socket: str = ""  #: a path; then there is no place
    username: str = ""
    password: str = field(default="", repr=False)
    database: int = 0  #: of a Redis
    virtual_host: str = "/"  #: of a RabbitMQ
    tls: Tls | None = None
    master_name: str = ""
    sentinel_username: str = ""
    sentinel_password: str = field(default="", repr=False)
    queue_type: QueueType = QueueType.CLASSIC

    @property
    def is_redis_like(self) -> bool:
        """Tell whether hints are popped from lists of a Redis."""
        return self.kind in (Kind.REDIS, Kind.SENTINEL)

    def for_kombu(self, options: Mapping[str, Any] = MappingProxyType({})) -> "ForKombu":
        """Return what Celery, kombu and Flower are given; they parse nothing but a plain URL.

        `options` are those of its transport: times, which hold for Sentinels as well.
        """
        if self.kind is Kind.RABBITMQ:
            tls = self.tls.for_amqp() if self.tls else None
        else:
            tls = self.tls.for_redis() if self.tls else None
        options = {**options, **self._sentinel_options(options)}
        return ForKombu(url=self._plain_url(), ssl=tls, options=options)

    def for_redis(self) -> dict[str, Any]:
        """Return how redis-py connects to the server itself; of a Sentinel, without the place."""
        said: dict[str, Any] = {
            "username": self.username or None,
            "password": self.password or None,
            "db": self.database,
        }
        if self.socket:
            return said | {"unix_socket_path": self.socket}
        if self.kind is Kind.REDIS:
            said |= {"host": self.places[0].host, "port": self.places[0].port}
        return said | self._tls_of_redis()

    def for_sentinels(self) -> dict[str, Any]:
        """Return how redis-py connects to the Sentinels: TLS as to the servers, a login apart."""
        return {
            "username": self.sentinel_username or None,
            "password": self.sentinel_password or None,
        } | self._tls_of_redis()

    def _tls_of_redis(self) -> dict[str, Any]:
        return {"ssl": True} | self.tls.for_redis() if self.tls else {}

    def _sentinel_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        if self.kind is not Kind.SENTINEL:
            return {}
        times = {name: options[name] for name in _SOCKET_TIMES if name in options}
        return {
            "master_name": self.master_name,
            "sentinel_kwargs": self.for_sentinels() | times,
        }

    def _plain_url(self) -> str:
        if self.kind is Kind.MEMORY:
            return "memory://"
        login = ""
        if self.username or self.password:
            login = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}@"
        if self.socket:
            return f"redis+socket://{login}{quote(self.socket)}?virtual_host={self.database}"
        scheme, path = self._scheme_and_path()
        return ";".join(f"{scheme}://{login}{place}/{path}" for place in self.places)

    def _scheme_and_path(self) -> tuple[str, str]:
        if self.kind is Kind.RABBITMQ:
            return "amqps" if self.tls else "amqp", quote(self.virtual_host, safe="")
        if self.kind is Kind.SENTINEL:
            return "sentinel", str(self.database)
        return "rediss" if self.tls else "redis", str(self.database)


@dataclass(frozen=True, slots=True)
class ForKombu:
    """What `kombu.Connection` and Celery are given."""

    url: str = field(repr=False)
    ssl: dict[str, Any] | None = field(repr=False)
    options: dict[str, Any] = field(repr=False)  #: of the transport
