"""Building, running and testing the limit of the stand-in for the providers."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

_HERE = Path(__file__).parent
_PATIENCE_S = 10.0
_REQUEST = b"POST /v1/responses HTTP/1.1\r\nHost: x\r\nContent-Length: 6000\r\n\r\n" + b"x" * 6000
_PIPELINED = 16  #: of them fill a socket's buffer, so that the client below is not the limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the stand-in says of itself."""

    served: int
    waiting: int
    most: int  #: that waited at once since it was last asked


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    """A provider that is fast enough not to be the limit, and knows what it answered."""

    port: int
    kind: str  #: "C" or "Python"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def counts(self) -> Counts:
        address = f"http://127.0.0.1:{self.port}/stats"
        with urllib.request.urlopen(address, timeout=_PATIENCE_S) as answer:
            return Counts(**json.load(answer))


@contextmanager
def stand_in(folder: Path, *, latency: timedelta) -> Iterator[StandIn]:
    """Run a stand-in with this latency; its program is built in `folder` once."""
    program = compiled(folder)
    command = [str(program)] if program else [sys.executable, "-m", "benchmarks.slow_provider"]
    replies = [str(_HERE / "replies" / name) for name in ("responses.json", "messages.json")]
    arguments = ["0", str(latency.total_seconds() * 1000), *replies]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            yield StandIn(port=port, kind="C" if program else "Python")
        finally:
            process.kill()


def compiled(folder: Path) -> Path | None:
    """Return the program made of fake_provider.c, or None without a compiler and epoll."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    program = folder / "fake_provider"
    if not program.exists():
        command = [compiler, "-O2", "-o", str(program), str(_HERE / "fake_provider.c")]
        subprocess.run(command, check=True, timeout=60)
    return program


def limit(provider: StandIn, *, seconds: float = 1.0) -> float:
    """Return the requests of 6 kB that it answers in a second, from one pipelined connection."""
    with socket.create_connection(("127.0.0.1", provider.port), timeout=_PATIENCE_S) as client:
        client.sendall(_REQUEST)
        size = len(client.recv(65536))
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            client.sendall(_REQUEST * _PIPELINED)
            left = size * _PIPELINED
            while left:
                left -= len(client.recv(left))
            done += _PIPELINED
        return done / (time.perf_counter() - began)
