"""A terminal of so many columns: what a program draws there, and what stands there at the end."""

import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path
from typing import Self

from tests.acceptance.terminal import clean_environment

#: What moves, erases or colours; whatever else a program commands is left out.
_COMMAND = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])|\x1b[()][A-Z0-9]|\x1b[=>]")


class Screen:
    """Runs `turnmill` on a terminal of its own, and reads along."""

    def __init__(self, *argv: str, folder: Path, columns: int = 80) -> None:
        ours, theirs = pty.openpty()
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self._columns = columns
        self._fd = ours
        self._drawn = b""
        self._program = subprocess.Popen(
            [sys.executable, "-m", "turnmill.cli", *argv],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=folder,
            env=clean_environment() | {"TERM": "xterm-256color"},
            start_new_session=True,
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._program.poll() is None:
            self._program.kill()
        self._program.wait(timeout=10)
        os.close(self._fd)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._fd, text.encode())

    def until(self, words: str, *, within: float = 30) -> str:
        """Return what stands on the screen as soon as that has the words."""
        ends = time.monotonic() + within
        while words not in (shown := self.shown()):
            assert time.monotonic() < ends, f"{words!r} is not on the screen:\n{shown}"
            if not self._read():
                assert words in self.shown(), self.shown()
        return shown

    def shown(self) -> str:
        """Return the lines as they stand, without colours; the screen is as long as it takes."""
        lines, row, column = [""], 0, 0
        for piece, number, command in _pieces(self._drawn.decode(errors="replace")):
            for letter in piece:
                if letter == "\r":
                    column = 0
                    continue
                if letter == "\n" or column == self._columns:
                    row += 1
                    column = column if letter == "\n" else 0
                    lines += [""] * (row + 1 - len(lines))
                if letter not in "\n\x07":
                    line = lines[row].ljust(column)
                    lines[row] = line[:column] + letter + line[column + 1 :]
                    column += 1
            if command == "A":
                row = max(row - int(number or 1), 0)
            elif command == "K":
                lines[row] = "" if number == "2" else lines[row][:column]
        return "\n".join(line.rstrip() for line in lines)

    def _read(self, within: float = 0.2) -> bool:
        """Take what was drawn meanwhile; False when the program has left the terminal."""
        if not select.select([self._fd], [], [], within)[0]:
            return self._program.poll() is None
        try:
            self._drawn += (more := os.read(self._fd, 1 << 16))
        except OSError:  # the other side is closed
            return False
        return bool(more)


def _pieces(drawn: str) -> Iterator[tuple[str, str, str]]:
    """Yield text, and the number and the letter of the command behind it."""
    at = 0
    for command in _COMMAND.finditer(drawn):
        yield drawn[at : command.start()], command[1] or "", command[2] or ""
        at = command.end()
    yield drawn[at:], "", ""
