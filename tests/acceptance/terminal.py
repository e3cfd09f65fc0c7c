"""A terminal: the command line as its users have it, with nothing set but what a test sets."""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from turnmill.cli import main


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Return the one line of JSON on stdout."""
        assert self.out.count("\n") == 1, self.out + self.err
        return json.loads(self.out)

    def lines(self) -> list[Any]:
        """Return every line of JSON on stdout."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True, slots=True)
class Terminal:
    """Runs `turnmill` in a folder."""

    folder: Path
    environment: Mapping[str, str]

    def run(self, *arguments: str, typed: str = "") -> Said:
        """Run a command from its arguments to its exit code, inside this process: it is quicker.

        `typed` is its stdin, which is no terminal.
        """
        out, err = io.StringIO(), io.StringIO()
        with (
            _own_umask(),
            contextlib.chdir(self.folder),
            mock.patch.dict(os.environ, self._environment(), clear=True),
            mock.patch.object(sys, "argv", ["turnmill", *arguments]),
            mock.patch.object(sys, "stdin", io.StringIO(typed)),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            main()
        return Said(int(ended.value.code or 0), out.getvalue(), err.getvalue())

    def spawn(self, *argv: str, typed: str = "", timeout: float = 60) -> Said:
        """Run a program of Python's in a process of its own."""
        done = subprocess.run(
            [sys.executable, *argv],
            input=typed,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self._environment(),
            timeout=timeout,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def _environment(self) -> dict[str, str]:
        return clean_environment() | dict(self.environment)


@contextlib.contextmanager
def _own_umask() -> Iterator[None]:
    """Keep the umask that a command sets for the program that it becomes from the next test."""
    before = os.umask(0o022)
    os.umask(before)
    try:
        yield
    finally:
        os.umask(before)


def clean_environment() -> dict[str, str]:
    """Return the environment of this process without anything of Turnmill's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TURNMILL_")}
