"""The tests that docs/testing.md shows are run as they stand."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.pages import ROOT, blocks_of

PAGE = ROOT / "docs" / "testing.md"


@pytest.mark.long
def test_the_tests_of_the_page_pass(tmp_path: Path) -> None:
    blocks = list(blocks_of(PAGE))
    for n, block in enumerate(blocks):
        (tmp_path / f"test_block_{n}.py").write_text(block.text)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    said = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert said.returncode == 0, said.stdout[-4000:] + said.stderr[-1000:]
    assert f"{sum(block.text.count('def test_') for block in blocks)} passed" in said.stdout
