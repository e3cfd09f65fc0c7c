"""Prompts that people have written, of public data that a package brings along."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: The Berkeley Function Calling Leaderboard: thousands of questions, a fifth of them in turns.
_PACKAGE = "bfcl-eval==2026.3.23"
_DATA = "bfcl_eval/data/BFCL_v4_"
_ANSWERS = "bfcl_eval/data/possible_answer/"
_NO_QUESTIONS = "format_sensitivity"


def real_lines(folder: Path, *, most: int) -> Iterator[dict[str, Any]]:
    """Yield lines of a batch, each with a question or several; over again where they are too few.

    The package is asked of the registry: it is unpacked, and nothing of it runs.
    """
    questions = list(_questions(_package(folder)))
    for n in range(most):
        said = questions[n % len(questions)]
        yield {"custom_id": f"line-{n}", "user_id": f"user-{n % 100}", "messages": said}


def real_answers(folder: Path) -> list[str]:
    """Return what the same people hold for right answers, to the first question of each."""
    found = []
    with zipfile.ZipFile(_package(folder)) as wheel:
        for name in sorted(wheel.namelist()):
            if name.startswith(_ANSWERS) and name.endswith(".json"):
                lines = wheel.read(name).decode().splitlines()
                found += [json.dumps(json.loads(line)["ground_truth"][0]) for line in lines]
    return found


def _package(folder: Path) -> Path:
    download = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest")
    only = ("--only-binary", ":all:", _PACKAGE)
    subprocess.run([*download, str(folder), *only], check=True, timeout=300)
    (package,) = folder.glob("bfcl_eval-*.whl")
    return package


def _questions(package: Path) -> Iterator[list[dict[str, str]]]:
    with zipfile.ZipFile(package) as wheel:
        for name in sorted(wheel.namelist()):
            if name.startswith(_DATA) and name.endswith(".json") and _NO_QUESTIONS not in name:
                for line in wheel.read(name).decode().splitlines():
                    yield from _asked(json.loads(line))


def _asked(record: dict[str, Any]) -> Iterator[list[dict[str, str]]]:
    said = [one for turn in record.get("question", ()) for one in turn]
    asked = [one for one in said if one["role"] == "user" and one["content"].strip()]
    if asked:
        yield [{"role": "user", "content": one["content"]} for one in asked]
