"""The folder that one stack lives in: its data, its secrets, its logs, and a lock on it all."""

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TextIO

from turnmill.ownership import doubt_about
from turnmill.running_home import LOCK_FILE
from turnmill_worker.stack.errors import HomeInUse, HomeOfAnother, StackError
from turnmill_worker.stack.process import wait_until

#: Written into a folder that we have made; it keeps the home out of git.
MARK, MARKED = ".gitignore", "*\n"

#: Whoever looks whether a home is held holds it as long as that, too.
_MOMENT = timedelta(milliseconds=300)


class Home:
    """A folder such as `.turnmill/`. What it holds survives restarts, and is never in git."""

    def __init__(self, path: Path) -> None:
        self._given = path  # with the links that lead there
        self.path = path.resolve()

    def make(self) -> None:
        """Make the folder where there is none. Raises HomeOfAnother: it holds what we believe."""
        if not self.path.is_dir():
            self._make_folder()
        self.refuse_another()

    def refuse_another(self) -> None:
        """Raise HomeOfAnother where others may have written what stands in it."""
        if doubt := doubt_about(self._given):
            raise HomeOfAnother(f"the home {self.path} is not believed: {doubt}")

    def _make_folder(self) -> None:
        # Root's Postgres runs as another user, who has to pass through to its own data.
        mode = 0o711 if os.geteuid() == 0 else 0o700
        try:
            self.path.mkdir(mode=mode, parents=True)
            (self.path / MARK).write_text(MARKED)
        except OSError as error:
            raise StackError(
                f"the home {self.path} cannot be made: {error.strerror}",
                hint="choose another one with TURNMILL_HOME",
            ) from error

    def log(self, name: str) -> Path:
        """Return where the program `name` writes what it has to say."""
        return self.folder("logs") / f"{name}.log"

    def secret(self, name: str) -> str:
        """Return a password that was drawn when it was first asked for."""
        path = self.folder("secrets") / name
        with contextlib.suppress(FileExistsError):
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(fd, "w") as file:
                file.write(secrets.token_hex(16))
        return path.read_text()

    def private_file(self, name: str, content: str) -> Path:
        """Write a file that holds secrets, readable by its owner only."""
        path = self.path / name
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(content)
        return path

    def remember(self, name: str, value: str) -> None:
        """Keep a word about this home for the next run."""
        path = self.folder("state") / name
        unfinished = path.with_name(name + ".new")
        unfinished.write_text(value)
        unfinished.replace(path)

    def remembered(self, name: str) -> str | None:
        """Return what `remember` kept, or None."""
        try:
            return (self.folder("state") / name).read_text()
        except FileNotFoundError:
            return None

    def remembered_names(self, prefix: str) -> list[str]:
        """Return the names that begin so."""
        return [path.name for path in self.folder("state").glob(f"{prefix}*")]

    def forget(self, name: str) -> None:
        """Undo `remember`."""
        (self.folder("state") / name).unlink(missing_ok=True)

    def remember_port(self, name: str, port: int) -> None:
        """Let the program `name` have this port in the next run, too, unless the disk is full."""
        if self.remembered_port(name) != port:
            with contextlib.suppress(OSError):
                self.remember(f"{name}.port", str(port))

    def remembered_port(self, name: str) -> int | None:
        """Return the port that the program `name` had in the last run, or None."""
        port = self.remembered(f"{name}.port") or ""
        return int(port) if port.isdigit() else None

    @contextlib.contextmanager
    def lock(self, *, patience: timedelta = _MOMENT) -> Iterator[None]:
        """Hold the home alone; raises HomeInUse where another does for longer than `patience`.

        The system lets go when this process ends.
        """
        self.make()
        with self._lock_file() as file:
            if not wait_until(lambda: _locked(file), timeout=patience):
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise HomeInUse(f"Turnmill already runs on {self.path} (process {holder})")
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield

    def _lock_file(self) -> TextIO:
        try:
            return (self.path / LOCK_FILE).open("a+")
        except OSError as error:
            raise StackError(
                f"the home {self.path} cannot be used: {error.strerror}",
                hint="choose another one with TURNMILL_HOME",
            ) from error

    @property
    def data_elsewhere(self) -> Path | None:
        """Where the data of Postgres are that its user cannot reach in the home; None: in it."""
        elsewhere = self.remembered("data-folder")
        return None if elsewhere is None else Path(elsewhere)

    def discard(self) -> None:
        """Remove it with all data, wherever they are. Nothing may run on it any more."""
        if self.data_elsewhere is not None:
            shutil.rmtree(self.data_elsewhere, ignore_errors=True)
        shutil.rmtree(self.path, ignore_errors=True)

    def folder(self, name: str) -> Path:
        """Return a folder of its own for `name`, closed to others; made where there is none."""
        folder = self.path / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder


def _locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
