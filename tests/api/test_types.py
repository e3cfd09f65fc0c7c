"""A user's own program under mypy --strict: every option is known, and every slip is found."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import turnmill

ROOT = Path(turnmill.__file__).resolve().parents[2]
PROGRAMS = Path(__file__).with_name("programs")


def mypy(*programs: Path) -> subprocess.CompletedProcess[str]:
    """Check programs as their author would: without our configuration."""
    kept = ROOT / ".mypy_cache" / "of-users"
    options = ["--strict", "--config-file=", "--follow-imports=silent", f"--cache-dir={kept}"]
    return subprocess.run(
        [sys.executable, "-m", "mypy", *options, *programs],
        cwd=PROGRAMS,
        env={**os.environ, "MYPYPATH": f"{ROOT / 'api_client'}:{ROOT / 'worker'}"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.mark.long
def test_a_type_checker_knows_every_option_and_finds_every_slip() -> None:
    misused = PROGRAMS / "misused.py"
    done = mypy(PROGRAMS / "every_option.py", misused)
    errors = re.findall(r"^(\S+):(\d+): error: .*(\[[\w-]+\])$", done.stdout, re.MULTILINE)
    found = list(dict.fromkeys(errors))  # of an overload, each slip may be told twice
    expected = [
        (misused.name, str(number), code[0])
        for number, line in enumerate(misused.read_text(encoding="utf-8").splitlines(), start=1)
        if (code := re.findall(r"# (\[[\w-]+\])$", line))
    ]
    assert found == expected, done.stdout + done.stderr
    assert len(expected) == 10
