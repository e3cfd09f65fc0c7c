"""What an installation brings, what importing it costs, and what the wheel holds."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import turnmill

ROOT = Path(turnmill.__file__).resolve().parents[2]

#: The modules of ours that may be loaded with a client.
LOADED = Path(__file__).with_name("loaded_with_a_client.txt")

#: What an application that only submits turns does not install.
WORKER_ONLY = {"aiohttp", "anthropic", "flower", "genai-prices", "httptools", "openai"}


def run_python(code: str, *arguments: str, cwd: Path | None = None) -> str:
    """Run `code` in a fresh interpreter and return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments, "-c", code],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def loaded_by(code: str) -> set[str]:
    """Return the top-level packages that are loaded after `code`."""
    printed = run_python(
        f"{code}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    )
    return set(printed.split())


def test_a_light_install_declares_no_part_of_the_worker() -> None:
    declared = [Requirement(line) for line in requires("turnmill") or []]
    light = {
        each.name.lower()
        for each in declared
        if each.marker is None or each.marker.evaluate({"extra": ""})
    }
    assert "sqlalchemy" in light
    assert not light & WORKER_ONLY


def test_importing_the_package_loads_no_sdk_no_celery_and_no_database() -> None:
    loaded = loaded_by("import turnmill; turnmill.TurnFailed")
    assert not loaded & {"anthropic", "celery", "flower", "openai", "sqlalchemy", "turnmill_worker"}


@pytest.mark.parametrize("name", ["Client", "AsyncClient"])
def test_a_client_loads_no_sdk_no_celery_and_no_worker(name: str) -> None:
    loaded = loaded_by(f"from turnmill import {name}")
    assert "sqlalchemy" in loaded
    assert not loaded & {"anthropic", "celery", "flower", "openai", "turnmill_worker"}


def test_the_adapters_load_when_they_are_used_and_not_before() -> None:
    loaded = loaded_by("import turnmill_worker.app")
    assert "celery" in loaded
    assert not loaded & {"anthropic", "openai"}


def test_importing_a_client_loads_what_sending_takes_and_no_other_module_of_ours() -> None:
    """What one verb alone needs is imported where it is used, or else is added to the list."""
    printed = run_python("from turnmill import Client\nimport sys; print(*sys.modules)")
    ours = {name for name in printed.split() if name.split(".")[0] == "turnmill"}
    assert "turnmill.sync.client" in ours
    assert sorted(ours - set(LOADED.read_text().split())) == []


def test_importing_a_client_costs_less_than_importing_sqlalchemy() -> None:
    code = "import time\nbegun = time.process_time()\nimport sqlalchemy.ext.asyncio\n"
    code += "from sqlalchemy.dialects import postgresql, sqlite\n"
    code += "there = time.process_time()\nfrom turnmill import Client, AsyncClient\n"
    code += "print((time.process_time() - there) / (there - begun))"
    assert any(float(run_python(code)) < 0.7 for _ in range(8))


def test_the_command_line_helps_within_300_ms() -> None:
    program = Path(sys.executable).with_name("turnmill")
    assert any(seconds_of(str(program), "--help") < 0.300 for _ in range(8))


def seconds_of(*command: str) -> float:
    """Return what the command cost of a core: unlike the clock on the wall, the same when busy."""
    before = os.times()
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    after = os.times()
    return (
        after.children_user - before.children_user + after.children_system - before.children_system
    )


def test_a_users_own_worker_module_disturbs_nothing(tmp_path: Path) -> None:
    for name in ("worker.py", "app.py", "store.py", "turn.py"):
        (tmp_path / name).write_text("raise RuntimeError('the module of the user was imported')\n")
    report = subprocess.run(
        [Path(sys.executable).with_name("celery"), "-A", "turnmill_worker.app", "report"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert report.returncode == 0, report.stderr
    assert "software -> celery:5" in report.stdout


def test_the_version_is_said_once() -> None:
    assert turnmill.__version__ == version("turnmill")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from what a source archive without .git holds."""
    source = tmp_path_factory.mktemp("source")
    for name in ("api_client", "worker"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    flags = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *flags, "--wheel-dir", source, source],
        check=True,
        timeout=60,
    )
    return zipfile.ZipFile(next(source.glob("turnmill-*.whl")))


def test_the_wheel_holds_types_and_licence(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {"turnmill/py.typed", "turnmill_worker/py.typed"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_holds_every_module_and_migration_of_the_source(wheel: zipfile.ZipFile) -> None:
    expected = {
        path.relative_to(ROOT / folder).as_posix()
        for folder in ("api_client", "worker")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".mako", ".sql"}
    }
    assert "turnmill/store/schema/migrations/script.py.mako" in expected
    assert expected <= set(wheel.namelist())


def test_the_wheel_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {
        "turnmill",
        "turnmill_worker",
        f"turnmill-{turnmill.__version__}.dist-info",
    }


def test_the_pinned_files_name_no_place_and_hash_everything() -> None:
    for path in sorted((ROOT / "constraints").glob("*.txt")):
        for entry in path.read_text().replace("\\\n", " ").splitlines():
            requirement, _, hashes = entry.partition(" --hash=sha256:")
            assert "==" in requirement, f"{path.name}: {requirement}"
            assert "://" not in entry
            assert hashes
