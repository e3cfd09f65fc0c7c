"""A provider of somebody else's is put to our promises in his own folder, as he would do it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ECHO = Path(__file__).parents[2] / "examples" / "echo_provider"


DOCS = Path(__file__).parents[2] / "docs" / "providers.md"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the example, built and installed beside this environment."""
    folder = tmp_path_factory.mktemp("author")
    project = shutil.copytree(ECHO, folder / "project", ignore=shutil.ignore_patterns("build"))
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install")
    options = ("--no-deps", "--no-build-isolation", "--target", str(folder / "site"))
    subprocess.run((*pip, *options, str(project)), check=True, capture_output=True, timeout=100)
    return folder


def author_runs(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest as the author does: his folder, his package, none of our plugins or settings."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(folder / "site")}
    return subprocess.run(
        (sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", "-rs", *arguments),
        cwd=folder / "project",
        env={**environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_example_keeps_every_promise_that_can_be_put_to_it(installed: Path) -> None:
    ran = author_runs(installed)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "failed" not in ran.stdout
    assert int(ran.stdout.split(" passed")[0].split()[-1]) >= 14, ran.stdout


def test_the_example_is_failed_by_the_promise_that_it_breaks(installed: Path) -> None:
    source = installed / "site" / "turnmill_echo.py"
    whole = source.read_text(encoding="utf-8")
    source.write_text(whole.replace('raise ThreadLost("thread_kept_elsewhere")', "pass"))
    try:
        ran = author_runs(installed)
    finally:
        source.write_text(whole)
    assert ran.returncode == 1
    assert "1 failed" in ran.stdout
    assert "test_a_thread_that_is_kept_elsewhere_is_not_answered_without_its_history" in ran.stdout


@pytest.mark.long
def test_the_example_of_the_docs_keeps_every_promise_that_can_be_put_to_it(tmp_path: Path) -> None:
    code = DOCS.read_text(encoding="utf-8").partition('```python\n"""tests/test_contract.py"""')[2]
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "test_contract.py").write_text(code.partition("```")[0])
    ran = author_runs(tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert int(ran.stdout.split(" passed")[0].split()[-1]) >= 15, ran.stdout
