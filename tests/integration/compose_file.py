"""docker-compose.yml as Compose reads it, and its services as plain processes of this machine."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]

_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\})")
_PROGRAMS = Path(sys.executable).parent
_STOP_WITHIN = timedelta(seconds=20)


class VariableMissing(Exception):
    """Compose would refuse to start."""


@dataclass(frozen=True, slots=True)
class Service:
    """One service, its variables filled in."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    check: Sequence[str] | None  #: the health check's argv
    check_timeout: timedelta
    needs: Mapping[str, str]  #: service → condition
    ports: Sequence[str]


def services(environ: Mapping[str, str]) -> dict[str, Service]:
    """Read the file with these variables set. Raises VariableMissing, as Compose would."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    raw = _interpolate(yaml.safe_load(text), environ)
    return {name: _service(name, entry) for name, entry in raw["services"].items()}


def _interpolate(value: Any, environ: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _interpolate(entry, environ) for key, entry in value.items()}
    if isinstance(value, list):
        return [_interpolate(entry, environ) for entry in value]
    if not isinstance(value, str):
        return value
    return _VARIABLE.sub(lambda match: _filled_in(match, environ), value)


def _filled_in(match: re.Match[str], environ: Mapping[str, str]) -> str:
    name = match["name"]
    if name is None:
        return "$"
    value = environ.get(name, "")
    if value or match["kind"] is None:
        return value
    if match["kind"] == "?":
        raise VariableMissing(f"{name}: {match['rest']}")
    return str(match["rest"])


def _service(name: str, entry: Mapping[str, Any]) -> Service:
    health = entry.get("healthcheck", {})
    return Service(
        name=name,
        command=entry.get("command", ()),
        environment=entry.get("environment", {}),
        check=_argv(health.get("test")),
        check_timeout=timedelta(seconds=int(health.get("timeout", "30s").removesuffix("s"))),
        needs={other: rule["condition"] for other, rule in entry.get("depends_on", {}).items()},
        ports=entry.get("ports", ()),
    )


def _argv(test: Sequence[str] | None) -> Sequence[str] | None:
    if test is None:
        return None
    kind, *rest = test
    return ("sh", "-c", *rest) if kind == "CMD-SHELL" else tuple(rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Stands for the image and its network: what is elsewhere here than in a container."""

    folder: Path  #: for what is written, and for programs that go before those of the system
    moved: Mapping[str, str]  #: text of the file → text that means the same here
    environment: Mapping[str, str]

    def run(self, service: Service, *, timeout: timedelta) -> int:
        """Run a one-shot service to its end and return its exit code."""
        with self.started(service) as process:
            return process.wait(timeout.total_seconds())

    @contextmanager
    def started(self, service: Service) -> Iterator[subprocess.Popen[bytes]]:
        """Run the service's command until the block ends, then stop it as Compose does."""
        with self.log(service).open("ab") as log:
            process = subprocess.Popen(
                self._here(service.command),
                env=self._environment(service),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_STOP_WITHIN.total_seconds())
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def is_healthy(self, service: Service) -> bool:
        """Run the service's health check once."""
        assert service.check is not None, f"{service.name} has none"
        try:
            done = subprocess.run(
                self._here(service.check),
                env=self._environment(service),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=service.check_timeout.total_seconds(),
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def log(self, service: Service) -> Path:
        """Return where the service's output goes."""
        return self.folder / f"{service.name}.log"

    def _here(self, argv: Sequence[str]) -> list[str]:
        return [self._moved(argument) for argument in argv]

    def _moved(self, text: str) -> str:
        for there, here in self.moved.items():
            text = text.replace(there, here)
        return text

    def _environment(self, service: Service) -> dict[str, str]:
        # Nothing of the caller's own environment but where programs lie: as in a container.
        path = os.pathsep.join([str(self.folder), str(_PROGRAMS), os.environ["PATH"]])
        inside = {name: self._moved(value) for name, value in service.environment.items()}
        return {"PATH": path, **inside, **self.environment}
