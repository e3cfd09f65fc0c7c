"""Building, running and testing the limit of the stand-in for the providers."""

import json
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
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
    trusted: Path | None = None  #: the certificate that it shows; None: it is not encrypted

    @property
    def url(self) -> str:
        return f"{self._origin}/v1"

    @property
    def trust(self) -> Mapping[str, str]:
        """The variables that let a program trust its certificate, and no other."""
        return {} if self.trusted is None else {"SSL_CERT_FILE": str(self.trusted)}

    def counts(self) -> Counts:
        trust = None if self.trusted is None else ssl.create_default_context(cafile=self.trusted)
        with urllib.request.urlopen(
            f"{self._origin}/stats", timeout=_PATIENCE_S, context=trust
        ) as answer:
            return Counts(**json.load(answer))

    @property
    def _origin(self) -> str:
        return f"http{'s' if self.trusted else ''}://127.0.0.1:{self.port}"


@contextmanager
def stand_in(folder: Path, *, latency: timedelta, tls: bool = False) -> Iterator[StandIn]:
    """Run a stand-in with this latency; its program is built in `folder` once."""
    program = compiled(folder, tls=tls)
    command = [str(program)] if program else [sys.executable, "-m", "benchmarks.slow_provider"]
    replies = [str(_HERE / "replies" / name) for name in ("responses.json", "messages.json")]
    shown = certificate(folder) if tls else ()
    arguments = ["0", str(latency.total_seconds() * 1000), *replies, *map(str, shown)]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            kind = "C" if program else "Python"
            yield StandIn(port=port, kind=kind, trusted=shown[0] if shown else None)
        finally:
            process.kill()


def compiled(folder: Path, *, tls: bool = False) -> Path | None:
    """Return the program made of fake_provider.c, or None where that cannot be made.

    It wants a compiler and epoll, and for TLS the headers of OpenSSL.
    """
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    program = folder / ("fake_provider_tls" if tls else "fake_provider")
    if not program.exists():
        command = [compiler, "-O2", "-o", str(program), str(_HERE / "fake_provider.c")]
        command += ["-DWITH_TLS", "-lssl", "-lcrypto"] if tls else []
        done = subprocess.run(command, check=not tls, timeout=60, capture_output=tls)
        if done.returncode:
            return None
    return program


def can_encrypt() -> bool:
    """Tell whether a certificate can be made here."""
    return shutil.which("openssl") is not None


def certificate(folder: Path) -> tuple[Path, Path]:
    """Return a certificate of 127.0.0.1 that signs itself, and its key; made in `folder` once."""
    shown, key = folder / "provider.pem", folder / "provider.key"
    if not shown.exists():
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]
        command += ["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=127.0.0.1"]
        command += ["-addext", "subjectAltName=IP:127.0.0.1"]
        command += ["-keyout", str(key), "-out", str(shown)]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
    return shown, key


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
