"""Hold every Python file of the project to the bound on its length in pyproject.toml."""

import sys
import tomllib
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("api_client", "worker", "tests", "tools", "benchmarks", "examples")


def too_long(bound: int, *, longer: Collection[str]) -> list[str]:
    """Return one line for each file of more than `bound` lines, but for those that may be."""
    found = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            name = path.relative_to(ROOT).as_posix()
            if lines > bound and name not in longer:
                found.append(f"{name}: {lines} lines, {bound} allowed")
    return found


def main() -> int:
    """Print the files that are too long; 1 when there are any."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        rules = tomllib.load(file)["tool"]["turnmill"]
    found = too_long(rules["max-lines"], longer=rules["longer"])
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
