"""Postgres of every version that is promised: from Debian, wheels, or a package of npm."""

import os
import re
import subprocess
from pathlib import Path

MAJORS = (14, 15, 16, 17, 18)
ROOT = Path(__file__).parents[2]
#: Where `make connections` puts what is nobody's dependency.
WHEELS = ROOT / ".venv" / "postgres"


def program_of(major: int) -> Path | None:
    """Return the `postgres` program of a version, or None where none is found.

    `POSTGRES_14=/path/to/bin/postgres` names one that is elsewhere.
    """
    named = os.environ.get(f"POSTGRES_{major}")
    found = [Path(named)] if named else [*_of_debian(major), *_of_wheels()]
    return next((path for path in found if path.is_file() and _major(path) == major), None)


def version_of(program: Path) -> str:
    """Return what the program calls itself: `17.10`."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+", said.stdout)
    return found[0] if found else "?"


def has_tls(program: Path) -> bool:
    """Tell whether this Postgres was built with TLS."""
    found = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    return "libssl" in found.stdout


def _of_debian(major: int) -> list[Path]:
    return [Path(f"/usr/lib/postgresql/{major}/bin/postgres")]


def _of_wheels() -> list[Path]:
    here = list((ROOT / ".venv" / "lib").glob("python*/site-packages/*/pginstall*/bin/postgres"))
    unpacked = sorted(WHEELS.glob("*/package/native/bin/postgres"))
    return [*here, *sorted(WHEELS.glob("*/*/pginstall*/bin/postgres")), *unpacked]


def _major(program: Path) -> int:
    return int(version_of(program).partition(".")[0].replace("?", "0"))
