"""Files that somebody named: written through what they are, and whole or as they were."""

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from turnmill import Client
from turnmill.named_file import NamedFile


def write(path: Path, text: str = "new\n") -> None:
    file = NamedFile(path)
    try:
        file.write(text)
        file.finish()
    finally:
        file.close()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def everything_is_open() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_new_file_is_its_owners_only_whatever_the_umask(tmp_path: Path) -> None:
    write(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "new\n"
    assert mode_of(tmp_path / "out") == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("old")
    (tmp_path / "out").chmod(0o640)
    write(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "new\n"
    assert mode_of(tmp_path / "out") == 0o640


def test_what_is_not_finished_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("old")
    file = NamedFile(tmp_path / "out")
    file.write("half")
    file.close()
    assert (tmp_path / "out").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path, *, exists: bool) -> None:
    target = tmp_path / "elsewhere" / "target"
    target.parent.mkdir()
    if exists:
        target.write_text("old")
    (tmp_path / "link").symlink_to("elsewhere/target")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert target.read_text() == "new\n"


def test_all_names_of_a_file_show_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("old and longer")
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    write(tmp_path / "one")
    assert (tmp_path / "two").read_text() == "new\n"


def test_a_fifo_gets_the_lines(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    heard: list[str] = []
    reader = threading.Thread(target=lambda: heard.append(fifo.read_text()))
    reader.start()
    write(fifo)
    reader.join(timeout=10)
    assert heard == ["new\n"]
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_a_device_stays_a_device() -> None:
    write(Path("/dev/null"))
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    with pytest.raises(OSError, match="No space left"):
        write(Path("/dev/full"))


@pytest.mark.parametrize("way", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
def test_stdout_by_name_is_appended_to_and_never_begun_anew(tmp_path: Path, way: str) -> None:
    if way == "link":
        way = str(tmp_path / "link")
        Path(way).symlink_to("/dev/stdout")
    program = (
        "import sys; from pathlib import Path; from turnmill.named_file import NamedFile\n"
        "print('before', flush=True)\n"
        "f = NamedFile(Path(sys.argv[1])); f.write('lines\\n'); f.finish(); f.close()\n"
        "print('after', flush=True)"
    )
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", program, way], stdout=out, check=True, timeout=60)
    assert (tmp_path / "out").read_text() == "before\nlines\nafter\n"


def test_where_the_disk_is_full_the_old_file_stays_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("old")
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from turnmill.named_file import NamedFile\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "file = NamedFile(Path(sys.argv[1]))\n"
        "try: file.write('x' * 100_000); file.finish()\n"
        "finally: file.close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "File too large" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_text() == "old"


def test_a_folder_that_takes_no_file_is_an_error_and_the_old_file_stays(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        NamedFile(tmp_path / "missing" / "out")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        NamedFile(tmp_path / "folder")


@pytest.mark.parametrize("url", ["sqlite:///:memory:", "sqlite:///file::memory:?uri=true"])
def test_a_store_in_memory_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    from turnmill.store.database import Database

    monkeypatch.chdir(tmp_path)
    database = Database(url)
    with database.begin():
        pass
    database.close()
    assert list(tmp_path.iterdir()) == []


def test_an_sqlite_file_and_those_beside_it_are_their_owners_only(tmp_path: Path) -> None:
    from turnmill.store.schema import migrate

    modes: dict[str, int] = {}
    for name in ("plain.db", "link.db"):
        if name == "link.db":
            (tmp_path / name).symlink_to("real.db")
        url = f"sqlite:///{tmp_path / name}"
        migrate.upgrade(url)
        with Client(database_url=url) as client:
            client.sessions.create(user_id="u", provider="mock", model="mock")
            modes |= {path.name: mode_of(path) for path in tmp_path.glob("*.db*")}
    assert modes.keys() >= {"plain.db", "plain.db-wal", "plain.db-shm", "real.db"}
    assert set(modes.values()) == {0o600}, modes
