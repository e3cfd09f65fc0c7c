"""Make turnmill/sync from turnmill/aio: `python tools/sync.py`, or --check to tell whether it is.

unasync takes `async` and `await` away. What it puts in the place of names stands here: whatever
truly differs between threads and tasks bears two names, `x` and `async_x`, `Y` and `AsyncY`.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "api_client" / "turnmill" / "aio"
TARGET = SOURCE.with_name("sync")

#: Names of modules, and of the standard library.
NAMES = {"aio": "sync", "task": "thread", "aclosing": "closing"}
#: Ours, in strings and comments too.
_DOUBLE = re.compile(r"\b(?:Async(?=[A-Z])|async_(?=[a-z]))(\w+)")
#: What is more than a name.
PHRASES = {
    "from sqlalchemy.ext.asyncio import Connection, Session": (
        "from sqlalchemy import Connection\n    from sqlalchemy.orm import Session"
    ),
    "`async with`": "`with`",
    "for asyncio, and the source of the one for threads: see `tools/sync.py`.": "for threads.",
}


def made() -> dict[Path, str]:
    """Return what the files of the target are to hold."""
    with tempfile.TemporaryDirectory() as folder:
        aio = Path(folder, "aio")
        aio.mkdir()
        for path in sorted(SOURCE.glob("*.py")):
            text = path.read_text(encoding="utf-8")
            (aio / path.name).write_text(_DOUBLE.sub(r"\1", text), encoding="utf-8")
        rule = unasync.Rule(str(aio), str(aio.with_name("sync")), NAMES)
        unasync.unasync_files([str(path) for path in aio.iterdir()], [rule])
        found = {path.name: path.read_text("utf-8") for path in aio.with_name("sync").iterdir()}
    return {TARGET / name: _finished(name, text) for name, text in sorted(found.items())}


def _finished(name: str, text: str) -> str:
    for phrase, other in PHRASES.items():
        text = text.replace(phrase, other)
    text = f"# Made from aio/{name} by `make sync`: change that.\n{text}"
    path = str(TARGET / name)
    sorted_imports = _ruff("check", "--quiet", "--fix", "--select=I", text=text, path=path)
    return _ruff("format", text=sorted_imports, path=path)


def _ruff(*arguments: str, text: str, path: str) -> str:
    command = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", path, "-"]
    done = subprocess.run(
        command, input=text, capture_output=True, encoding="utf-8", check=True, timeout=60
    )
    return done.stdout


def main() -> int:
    """Write the files; with --check, only say which are not what they should be, and return 1."""
    wanted = made()
    standing = {path: path.read_text(encoding="utf-8") for path in TARGET.glob("*.py")}
    wrong = [path for path in {**standing, **wanted} if standing.get(path) != wanted.get(path)]
    if "--check" not in sys.argv:
        for path in wrong:
            if path in wanted:
                path.write_text(wanted[path], encoding="utf-8")
            else:
                path.unlink()
        return 0
    for path in sorted(wrong):
        print(f"{path.relative_to(ROOT)} is not what `make sync` makes of aio/")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
