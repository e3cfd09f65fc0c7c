"""Homes and notes: those that others may have written lead nobody anywhere."""

import fcntl
import json
import logging
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.terminal import Terminal
from turnmill import Settings
from turnmill.cli.doctor.findings import Examination
from turnmill.cli.doctor.home import check_home
from turnmill.ownership import doubt_about
from turnmill.running_home import flower_url_of_home, is_held, settings_of_home
from turnmill_worker.stack.errors import HomeOfAnother
from turnmill_worker.stack.home import Home

STRANGER = 4242
URL = "postgresql://evil.example/db"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = Home(tmp_path / "home")
    made.make()
    made.private_file("ready.json", json.dumps({"database_url": URL, "pid": os.getpid()}))
    return made.path


@pytest.fixture
def held(home: Path) -> Iterator[Path]:
    with Home(home).lock():
        yield home


def url_of(home: Path) -> str:
    return settings_of_home({"TURNMILL_HOME": str(home)}).database_url


def test_the_note_of_our_own_running_system_is_believed(held: Path) -> None:
    assert url_of(held) == URL


def test_a_note_in_a_home_that_nobody_holds_is_none_whatever_process_it_names(home: Path) -> None:
    """It came with somebody's archive or repository, or its writer was killed."""
    assert url_of(home) == ""
    assert not is_held(home / "lock")


def test_looking_at_a_home_keeps_nobody_from_holding_it(held: Path) -> None:
    assert is_held(held / "lock")
    with (held / "lock").open() as file:
        os.set_inheritable(file.fileno(), False)
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def open_to_all(home: Path) -> None:
    home.chmod(0o777)


def open_to_a_group(home: Path) -> None:
    home.chmod(0o770)


def given_away(home: Path) -> None:
    os.chown(home, STRANGER, STRANGER)


def in_an_open_folder(home: Path) -> None:
    home.parent.chmod(0o777)


SPOILT = [
    open_to_all,
    open_to_a_group,
    in_an_open_folder,
    pytest.param(given_away, marks=needs_root),
]


@pytest.mark.parametrize("spoil", SPOILT)
def test_a_home_that_others_may_have_written_is_not_believed_and_not_used(
    held: Path, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    spoil(held)
    with caplog.at_level(logging.WARNING):
        assert url_of(held) == ""
    assert "is not believed" in caplog.text
    assert flower_url_of_home(Settings(home=held, database_url=URL)) == ""
    with pytest.raises(HomeOfAnother):
        Home(held).make()
    held.parent.chmod(0o700)


@needs_root
def test_a_link_of_another_leads_to_no_home_however_far_away_it_is(
    held: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder").symlink_to(tmp_path)
    link = tmp_path / "link"
    link.symlink_to("folder/home")
    assert doubt_about(link) == ""
    os.lchown(tmp_path / "folder", STRANGER, STRANGER)
    assert str(STRANGER) in doubt_about(link)
    with pytest.raises(HomeOfAnother):
        Home(link).make()


@needs_root
def test_a_note_of_another_in_our_home_is_not_believed(held: Path) -> None:
    os.chown(held / "ready.json", STRANGER, STRANGER)
    assert url_of(held) == ""


def test_a_note_that_is_a_link_a_fifo_or_open_to_others_is_not_believed(held: Path) -> None:
    note = held / "ready.json"
    note.chmod(0o666)
    assert url_of(held) == ""
    note.rename(held / "elsewhere")
    (held / "elsewhere").chmod(0o600)
    note.symlink_to("elsewhere")
    assert url_of(held) == ""
    note.unlink()
    os.mkfifo(note, 0o600)
    assert url_of(held) == ""
    assert stat.S_ISFIFO(note.stat().st_mode)


def test_a_note_that_is_no_note_of_ours_is_not_believed(held: Path) -> None:
    for text in ("[]", "null", "{", "\ud83d", " " * 100_000 + "{}"):
        (held / "ready.json").write_bytes(text.encode("utf-8", "surrogatepass"))
        assert url_of(held) == ""


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert doubt_about(tmp_path / "a") != ""


def test_doctor_says_whose_a_home_is_and_where_its_data_are(held: Path) -> None:
    def doctor() -> list[tuple[str, str]]:
        settings = Settings(home=held)
        examination = Examination(settings=settings, environ={})
        return [(one.level.value, one.what) for one in check_home(examination)]

    Home(held).remember("data-folder", "/var/lib/turnmill/home-1")
    assert doctor() == [
        ("ok", f"{held} is ours alone"),
        ("note", "the data of its Postgres are in /var/lib/turnmill/home-1"),
    ]
    held.chmod(0o777)
    [(level, what)] = doctor()
    assert level == "wrong"
    assert "is not believed" in what


@pytest.mark.parametrize("name", ["schedule", "schedule.db"])
def test_beat_reads_no_schedule_that_others_may_have_written(tmp_path: Path, name: str) -> None:
    """It is unpickled."""
    (tmp_path / name).write_bytes(b"")
    (tmp_path / name).chmod(0o666)
    servers = {"TURNMILL_DATABASE_URL": URL, "TURNMILL_BROKER_URL": "redis://127.0.0.1:1/0"}
    said = Terminal(tmp_path, servers).run("beat", "-s", "schedule")
    assert said.code == 1
    assert "is not believed: others may write to it" in said.err
