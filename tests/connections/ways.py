"""Brokers that a team may have, each as a context manager that yields its URL."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import redis

from tests.connections.certificates import make_certificates
from tests.connections.rabbit_server import RabbitServer
from tests.connections.redis_servers import (
    RedisServer,
    SentinelServer,
    redis_of_debian,
    valkey_of_the_wheel,
)
from tests.doubles.tls_front import TlsFront

PASSWORD = "p@ss/w:rd?#%41+,; é"
QUOTED = quote(PASSWORD, safe="")
_DOCS = Path(__file__).parents[2] / "docs" / "connections.md"


def _asking_for(password: str) -> str:
    return f'requirepass "{password}"'


@contextmanager
def with_a_password(folder: Path) -> Iterator[str]:
    with RedisServer(valkey_of_the_wheel(), folder, _asking_for(PASSWORD)) as server:
        yield f"redis://:{QUOTED}@127.0.0.1:{server.port}/0"


@contextmanager
def on_a_socket(folder: Path) -> Iterator[str]:
    path = folder / "redis.sock"
    lines = (f"unixsocket {path}", f'user turns on >"{PASSWORD}" ~* &* +@all')
    with RedisServer(valkey_of_the_wheel(), folder, *lines):
        yield f"redis+socket://turns:{QUOTED}@{path}?db=2"


@contextmanager
def behind_stunnel(folder: Path) -> Iterator[str]:
    files = make_certificates(folder)
    with (
        RedisServer(valkey_of_the_wheel(), folder, _asking_for(PASSWORD)) as server,
        TlsFront(server.port, certificate=files.certificate, key=files.key) as front,
    ):
        yield f"rediss://:{QUOTED}@localhost:{front.port}/1?ssl_ca_certs={files.authority}"


@contextmanager
def with_tls_of_its_own(folder: Path) -> Iterator[str]:
    """Redis that asks the client for a certificate, too."""
    files = make_certificates(folder)
    lines = (
        "port 0",
        "tls-port PORT",
        f"tls-ca-cert-file {files.authority}",
        f"tls-cert-file {files.certificate}",
        f"tls-key-file {files.key}",
        _asking_for(PASSWORD),
    )
    ours = f"ssl_certfile={files.certificate}&ssl_keyfile={files.key}"
    with RedisServer(redis_of_debian(), folder, *lines) as server:
        yield (
            f"rediss://:{QUOTED}@127.0.0.1:{server.port}/0?ssl_ca_certs={files.authority}&{ours}"
        )


@contextmanager
def by_the_acls_of_the_docs(folder: Path) -> Iterator[str]:
    """Yield the worker's URL; `as_user` makes the others of it."""
    users = re.findall(r"^ACL SETUSER (\w+) on >SECRET (.*)$", _DOCS.read_text(), re.MULTILINE)
    assert [user for user, _ in users] == ["client", "worker", "beat", "flower"]
    with RedisServer(redis_of_debian(), folder, _asking_for("admin")) as server:
        with redis.Redis(port=server.port, password="admin") as admin:
            for user, rules in users:
                admin.execute_command("ACL", "SETUSER", user, "on", f">{user}", *rules.split())
        yield f"redis://worker:worker@127.0.0.1:{server.port}/0"


def as_user(url: str, user: str) -> str:
    return url.replace("worker:worker", f"{user}:{user}")


@dataclass
class Sentinels:
    """A primary, its replica, and three Sentinels that watch them."""

    primary: RedisServer
    replica: RedisServer
    watchers: list[SentinelServer]

    @property
    def url(self) -> str:
        places = ",".join(f"127.0.0.1:{one.port}" for one in self.watchers)
        return f"sentinel://:{QUOTED}@{places}/1?master_name=turns&sentinel_password=watch"


@contextmanager
def sentinels(folder: Path) -> Iterator[Sentinels]:
    program = valkey_of_the_wheel()
    login = (_asking_for(PASSWORD), f'masterauth "{PASSWORD}"')
    with ExitStack() as started:
        primary = started.enter_context(RedisServer(program, folder, *login))
        follows = f"replicaof 127.0.0.1 {primary.port}"
        replica = started.enter_context(RedisServer(program, folder, *login, follows))
        lines = (
            _asking_for("watch"),
            f"sentinel monitor turns 127.0.0.1 {primary.port} 2",
            f'sentinel auth-pass turns "{PASSWORD}"',
            "sentinel down-after-milliseconds turns 1000",
            "sentinel failover-timeout turns 3000",
            "sentinel sentinel-pass watch",
        )
        watchers = [
            started.enter_context(SentinelServer(program, folder, *lines)) for _ in range(3)
        ]
        yield Sentinels(primary, replica, watchers)


@contextmanager
def behind_sentinels(folder: Path) -> Iterator[str]:
    with sentinels(folder) as found:
        yield found.url


@contextmanager
def rabbitmq(folder: Path, *, queue_type: str) -> Iterator[str]:
    with RabbitServer(folder) as server:
        password = quote(server.password, safe="")
        yield f"amqp://{server.user}:{password}@127.0.0.1:{server.port}/?queue_type={queue_type}"


@contextmanager
def behind_sentinels_with_tls(folder: Path) -> Iterator[str]:
    """One primary and its Sentinel, with TLS between all of them."""
    files = make_certificates(folder)
    program = redis_of_debian()
    tls = (
        *("port 0", "tls-port PORT", "tls-replication yes", "tls-auth-clients no"),
        f"tls-ca-cert-file {files.authority}",
        f"tls-cert-file {files.certificate}",
        f"tls-key-file {files.key}",
    )
    with RedisServer(program, folder, *tls, _asking_for("primary")) as primary:
        watched = (
            f"sentinel monitor turns 127.0.0.1 {primary.port} 1",
            "sentinel auth-pass turns primary",
        )
        with SentinelServer(program, folder, *tls, *watched) as watcher:
            yield (
                f"sentinel://:primary@localhost:{watcher.port}/0?master_name=turns"
                f"&ssl=true&ssl_ca_certs={files.authority}"
            )


Way = Callable[[Path], AbstractContextManager[str]]

#: Rows of the matrix.
OF_REDIS: Mapping[str, Way] = MappingProxyType(
    {
        "Valkey, a password of odd characters": with_a_password,
        "Valkey, a Unix socket and a user": on_a_socket,
        "Valkey, TLS in front": behind_stunnel,
        "Valkey, three Sentinels with a password": behind_sentinels,
    }
)
OF_DEBIAN: Mapping[str, Way] = MappingProxyType(
    {
        "Redis 7.0, TLS with a client's certificate": with_tls_of_its_own,
        "Redis 7.0, a Sentinel, TLS to both": behind_sentinels_with_tls,
        "Redis 7.0, the ACLs of this page": by_the_acls_of_the_docs,
        "RabbitMQ, classic queues": lambda folder: rabbitmq(folder, queue_type="classic"),
        "RabbitMQ, quorum queues": lambda folder: rabbitmq(folder, queue_type="quorum"),
    }
)
