"""The file in which libpq looks for passwords: https://www.postgresql.org/docs/current/libpq-pgpass.html."""

import re
from collections.abc import Mapping
from itertools import product
from pathlib import Path

#: Between two fields; a colon in one is written as `\:`.
_BETWEEN = re.compile(r"(?<!\\):")
_MOST_BYTES = 1_000_000


def has_password(file: Path, said: Mapping[str, str]) -> bool:
    """Tell whether a line of the file is for the host, port, database and user that are `said`."""
    try:
        with file.open(encoding="utf-8", errors="replace") as opened:
            lines = opened.read(_MOST_BYTES).splitlines()
    except OSError:
        return False
    user = said.get("user", "")
    hosts = (said.get("host") or "localhost").split(",")
    ports = (said.get("port") or "5432").split(",")
    wanted = product(hosts, ports, [said.get("dbname") or user], [user])
    lines = [line for line in lines if not line.startswith("#")]
    return any(_fits(line, one) for one in wanted for line in lines)


def _fits(line: str, wanted: tuple[str, ...]) -> bool:
    fields = [one.replace("\\:", ":").replace("\\\\", "\\") for one in _BETWEEN.split(line)]
    if len(fields) < 5 or not fields[4]:
        return False
    return all(field in ("*", value) for field, value in zip(fields[:4], wanted, strict=True))
