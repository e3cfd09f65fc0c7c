"""What a broker URL means: read here and nowhere else, and refused where libraries would differ."""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from turnmill.connections.brokers import Address, Broker, CertReqs, Kind, QueueType, Tls
from turnmill.domain.errors import InvalidSetting

_ENCODE = "percent-encode user, password and parameters: @ is %40, / is %2F, ? is %3F, # is %23"
_EXAMPLE = "redis://:password@host:6379/0"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SEVERAL = re.compile(r";(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_NAME = re.compile(r"[a-z_]{1,40}")


@lru_cache(maxsize=32)
def read_broker_url(url: str) -> Broker:
    """Return what the URL means; raises InvalidSetting, which quotes nothing that may be secret."""
    if _CONTROL.search(url):
        raise _wrong("holds a control character or a line break", "remove it")
    first, *others = (_parts(one) for one in _SEVERAL.split(url))
    if first.scheme not in _SCHEMES:
        raise _unknown_scheme(first.scheme)
    for other in others:
        first = _joined(first, other)
    return _SCHEMES[first.scheme](first)


def read_stream_url(url: str) -> Broker:
    """Return which Redis the URL of streams means; raises InvalidSetting."""
    try:
        broker = read_broker_url(url)
    except InvalidSetting as error:
        what = str(error).replace("the broker URL", "the URL of streams")
        hint = error.hint.replace("TURNMILL_BROKER_URL", "TURNMILL_STREAM_URL")
        raise InvalidSetting(what, hint=hint) from None
    if not broker.is_redis_like:
        raise InvalidSetting(
            "the URL of streams leads to no Redis",
            hint=f"TURNMILL_STREAM_URL: {_EXAMPLE}, or off: nothing is carried",
        )
    return broker


def _parts(url: str) -> SplitResult:
    scheme, found, rest = url.partition("://")
    if not found:
        raise _unknown_scheme("")
    try:
        parts = urlsplit(f"{scheme.lower()}://{rest}")
    except ValueError:
        raise _wrong("cannot be understood", _ENCODE) from None
    if parts.fragment or "#" in rest or "@" in parts.path + parts.query:
        raise _wrong("holds a / ? or # before its last @", _ENCODE)
    return parts


def _joined(first: SplitResult, other: SplitResult) -> SplitResult:
    """Return one URL with the hosts of both; whatever else the second one says has to agree."""
    login, at, places = first.netloc.rpartition("@")
    others_login, _, others_places = other.netloc.rpartition("@")
    if other.scheme != first.scheme or (others_login or login) != login:
        raise _wrong("holds several URLs that differ in more than the host", _EXAMPLE)
    # kombu's examples give the path and the parameters to the last one alone.
    path, query = first.path or other.path, first.query or other.query
    if other.path not in ("", path) or other.query not in ("", query):
        raise _wrong("holds several URLs that differ in more than the host", _EXAMPLE)
    return first._replace(netloc=f"{login}{at}{places},{others_places}", path=path, query=query)


def _redis(parts: SplitResult) -> Broker:
    given = _Parameters(parts)
    places = _places(parts, default_port=6379)
    if len(places) > 1:
        raise _wrong(
            "names several Redis servers: half of the programs would use the first one only",
            "sentinel://host1:26379,host2:26379/0?master_name=…, or one name that leads to them",
        )
    username, password = _login(parts)
    tls = given.tls(parts.scheme == "rediss", way="rediss://")
    database = _database(parts.path, given)
    given.finish()
    return Broker(
        kind=Kind.REDIS,
        places=places,
        username=username,
        password=password,
        database=database,
        tls=tls,
    )


def _socket(parts: SplitResult) -> Broker:
    given = _Parameters(parts)
    username, password = _login(parts)
    if parts.netloc.rpartition("@")[2] or not parts.path.strip("/"):
        raise _wrong("names no socket", "redis+socket:///run/redis/redis.sock?db=0")
    given.tls(False, way="rediss://host:6379/0")
    database = _database("", given)
    given.finish()
    return Broker(
        kind=Kind.REDIS,
        socket=unquote(parts.path),
        username=username,
        password=password,
        database=database,
    )


def _sentinel(parts: SplitResult) -> Broker:
    given = _Parameters(parts)
    username, password = _login(parts)
    master_name = given.take("master_name") or ""
    if not master_name:
        raise _wrong("names no primary", "sentinel://host:26379/0?master_name=mymaster")
    tls = given.tls(given.flag("ssl", default=False), way="&ssl=true")
    broker = Broker(
        kind=Kind.SENTINEL,
        places=_places(parts, default_port=26379),
        username=username,
        password=password,
        database=_database(parts.path, given),
        tls=tls,
        master_name=master_name,
        sentinel_username=given.take("sentinel_username") or "",
        sentinel_password=given.take("sentinel_password") or "",
    )
    given.finish()
    return broker


def _amqp(parts: SplitResult) -> Broker:
    given = _Parameters(parts)
    encrypted = parts.scheme == "amqps"
    username, password = _login(parts)
    places = _places(parts, default_port=5671 if encrypted else 5672)
    tls = given.tls(encrypted, way="amqps://")
    if tls and len(places) > 1:
        # kombu keeps the first host's name, and looks for it in the certificate of the second.
        raise _wrong("names several hosts with TLS", "one name that leads to all of them")
    queue_type = given.take("queue_type") or QueueType.CLASSIC
    if queue_type not in tuple(QueueType):
        raise _wrong("has no such queue_type", "queue_type=classic or queue_type=quorum")
    given.finish()
    return Broker(
        kind=Kind.RABBITMQ,
        places=places,
        # What kombu and RabbitMQ take where nothing is said.
        username=username or "guest",
        password=password or "guest",
        virtual_host=unquote(parts.path[1:]) or "/",
        tls=tls,
        queue_type=QueueType(queue_type),
    )


def _memory(parts: SplitResult) -> Broker:
    return Broker(kind=Kind.MEMORY)


_SCHEMES: Mapping[str, Callable[[SplitResult], Broker]] = MappingProxyType(
    {
        "redis": _redis,
        "rediss": _redis,
        "redis+socket": _socket,
        "unix": _socket,
        "sentinel": _sentinel,
        "amqp": _amqp,
        "amqps": _amqp,
        "pyamqp": _amqp,
        "memory": _memory,
    }
)


class _Parameters:
    """What stands behind the `?`. Each is taken by whoever knows it; what is left is refused."""

    def __init__(self, parts: SplitResult) -> None:
        self._left: dict[str, str] = {}
        # Not as a form: a + is a + there, for redis-py and in a password.
        for name, value in parse_qsl(parts.query.replace("+", "%2B"), keep_blank_values=True):
            if name in self._left:
                raise _wrong("says a parameter twice", "leave one of them out")
            self._left[name] = value

    def take(self, name: str) -> str | None:
        return self._left.pop(name, None)

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.take(name)
        if value is None:
            return default
        if value.lower() not in _FLAGS:
            raise _wrong(f"has a {name} that is neither true nor false", f"{name}=true")
        return _FLAGS[value.lower()]

    def tls(self, encrypted: bool, *, way: str) -> Tls | None:
        """Return how TLS is used, or None; `way` is how it would be."""
        if not encrypted:
            if any(name.startswith("ssl") for name in self._left):
                raise _wrong("says how to use TLS, and does not use it", f"{way} uses it")
            return None
        reqs = (self.take("ssl_cert_reqs") or "required").lower().removeprefix("cert_")
        if reqs not in tuple(CertReqs):
            raise _wrong("has no such ssl_cert_reqs", "leave it out: certificates are verified")
        verifies = reqs != CertReqs.NONE
        return Tls(
            cert_reqs=CertReqs(reqs),
            check_hostname=self.flag("ssl_check_hostname", default=True) and verifies,
            ca_certs=self.take("ssl_ca_certs"),
            certfile=self.take("ssl_certfile"),
            keyfile=self.take("ssl_keyfile"),
        )

    def finish(self) -> None:
        """Refuse what one library would heed and another one ignore."""
        for name in self._left:
            if name in _ELSEWHERE:
                raise _wrong(f"has a parameter {name}", _ELSEWHERE[name])
            named = f" {name}" if _NAME.fullmatch(name) else ""
            raise _wrong(f"has a parameter{named} that Turnmill does not know", _KNOWN)


_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_KNOWN = (
    "known are db, ssl_cert_reqs, ssl_check_hostname, ssl_ca_certs, ssl_certfile, ssl_keyfile;"
    " for sentinel: master_name, sentinel_username, sentinel_password, ssl; for amqp: queue_type"
)
_TIMES = "leave it out: Turnmill sets its own"
_ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        "username": "put it before the @",
        "password": "put it before the @",
        "service_name": "master_name=…",
        "ssl_ca_path": "ssl_ca_certs=FILE",
        "ssl_ca_data": "ssl_ca_certs=FILE",
        "cacertfile": "ssl_ca_certs=FILE",
        "verify": "leave it out: certificates are verified",
        **dict.fromkeys(
            ("socket_timeout", "socket_connect_timeout", "health_check_interval", "heartbeat"),
            _TIMES,
        ),
    }
)


def _login(parts: SplitResult) -> tuple[str, str]:
    login = parts.netloc.rpartition("@")[0]
    username, _, password = login.partition(":")
    return unquote(username), unquote(password)


def _places(parts: SplitResult, *, default_port: int) -> tuple[Address, ...]:
    netloc = parts.netloc.rpartition("@")[2]
    return tuple(_place(one, default_port) for one in netloc.split(","))


def _place(text: str, default_port: int) -> Address:
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([\w.-]*))(?::(\d{0,5}))?", text)
    if found is None:
        raise _wrong("names no host that can be understood", _ENCODE)
    port = int(found[3] or default_port)
    if not 0 < port < 2**16:
        raise _wrong("has a port that is none", "1 to 65535")
    return Address(found[1] or found[2] or "localhost", port)


def _database(path: str, given: _Parameters) -> int:
    said = {path.strip("/"), given.take("db") or "", given.take("virtual_host") or ""} - {""}
    if len(said) > 1:
        raise _wrong("names two databases", _EXAMPLE)
    number = said.pop() if said else "0"
    if not re.fullmatch(r"\d{1,4}", number, re.ASCII):
        raise _wrong("names a database that is no number", _EXAMPLE)
    return int(number)


def _unknown_scheme(scheme: str) -> InvalidSetting:
    if "cluster" in scheme:
        return _wrong(
            "leads to a Redis Cluster, where lists of different queues are on different servers",
            "use one Redis, or Sentinels: sentinel://host:26379/0?master_name=…",
        )
    if scheme.startswith(("redis+sentinel", "rediss+sentinel", "sentinels", "redis-sentinel")):
        return _wrong(
            "has an unknown scheme", "sentinel://host:26379/0?master_name=…, with &ssl=true for TLS"
        )
    return _wrong("cannot be understood", f"{_EXAMPLE}, or rediss://, sentinel://, amqps://")


def _wrong(what: str, hint: str) -> InvalidSetting:
    return InvalidSetting(f"the broker URL {what}", hint=f"TURNMILL_BROKER_URL: {hint}")
