"""Two versions in one run: python -m benchmarks.pair BASE [--rounds 5] [--out FILE].

Three sides stand beside each other, each with its own servers and tables: BASE, this tree, and BASE
once more, whose ratio to itself is the spread that a difference has to be seen against. They are
measured in turns, a round after another, in another order each time. Takes about eight minutes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.__main__ import conditions, tell, write
from benchmarks.parts import Spread

_HERE = Path(__file__).parent
_ROOT = _HERE.parent
_OUT = _HERE / "out" / "pair.json"
_CODE = ("api_client/turnmill", "worker/turnmill_worker")
_MOST = 1.05  #: a ratio above this is marked
_INSTALL_S, _START_S, _ROUND_S, _END_S = 600.0, 120.0, 300.0, 60.0
_ORDERS = (("base", "this", "again"), ("again", "base", "this"), ("this", "again", "base"))

Figures = Mapping[str, float]
Round = Mapping[str, Figures]  #: by side


class Side:
    """A version that is measured in a process of its own, when it is told to.

    It is measured by its own program where it has one: what that program calls of the benchmark
    may be called otherwise elsewhere.
    """

    def __init__(self, python: Path, root: Path) -> None:
        own = root / "benchmarks" / "pair_side.py"
        program = own if own.exists() else _HERE / "pair_side.py"
        env = {key: value for key, value in os.environ.items() if not key.startswith("TURNMILL_")}
        self._process = subprocess.Popen(
            [python, "-P", program],
            cwd=root,
            env=env | {"PYTHONPATH": str(root)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def await_ready(self) -> None:
        self._line(within=_START_S)

    def measure(self) -> Figures:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found: Figures = json.loads(self._line(within=_ROUND_S))
        return found

    def close(self) -> None:
        """Let it stop its servers."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _line(self, *, within: float) -> str:
        assert self._process.stdout is not None
        watchdog = threading.Timer(within, self._process.kill)
        watchdog.start()
        line = self._process.stdout.readline()
        watchdog.cancel()
        if not line:
            sys.exit("a side ended, or took too long; what it said of it stands above")
        return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", metavar="BASE", help="a commit, branch or tag of this repository")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=_OUT)
    given = parser.parse_args()
    base = commit_of(given.base)
    found = {"base": base[:12], "conditions": conditions(), "marked_above": _MOST}
    rounds: list[Round] = []
    with installed(base) as (python, root), sides(python, root) as three:
        for number in range(given.rounds):
            rounds.append(one_round(three, _ORDERS[number % len(_ORDERS)]))
            write(given.out, found | {"rounds": rounds, "figures": compared(rounds)})
            tell(f"round {number + 1} of {given.rounds}")
    print(table(base[:12], compared(rounds)))
    tell(f"written: {given.out}")


def commit_of(name: str) -> str:
    """Return the commit's full name, or end with what is wrong."""
    done = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if not name or done.returncode != 0:
        sys.exit(
            f"BASE={name!r} is no commit of this repository. What is not committed has no name to"
            " be measured by: commit it, then make bench-pair BASE=<commit>"
        )
    commit = done.stdout.strip()
    if _git("cat-file", "-e", f"{commit}:benchmarks/throughput.py").returncode != 0:
        sys.exit(f"BASE={name!r} is older than the benchmark: it cannot be measured")
    return commit


@contextmanager
def installed(commit: str) -> Iterator[tuple[Path, Path]]:
    """Install the commit as it says itself, with its own pins; yield its Python and its folder."""
    with tempfile.TemporaryDirectory(prefix="turnmill-pair-", dir="/tmp") as name:
        root = Path(name) / "base"
        _checked("git", "worktree", "add", "--quiet", "--detach", str(root), commit, cwd=_ROOT)
        try:
            tell(f"installing {commit[:12]}")
            python = getattr(sys, "_base_executable", sys.executable)
            _checked("make", "install", f"PYTHON={python}", cwd=root)
            for tree in (_ROOT, root):  # or one of them compiles what it imports, each time anew
                _checked(sys.executable, "-m", "compileall", "-q", *_CODE, cwd=tree)
            yield root / ".venv" / "bin" / "python", root
        finally:
            _git("worktree", "remove", "--force", str(root))


@contextmanager
def sides(python: Path, root: Path) -> Iterator[Mapping[str, Side]]:
    """Start the three sides, and stop them afterwards."""
    with ExitStack() as stack:
        found = {
            "base": Side(python, root),
            "again": Side(python, root),
            "this": Side(Path(sys.executable), _ROOT),
        }
        for side in found.values():
            stack.callback(side.close)
        for side in found.values():
            side.await_ready()
        yield found


def one_round(three: Mapping[str, Side], order: Sequence[str]) -> Round:
    found = {}
    for name in order:
        began = time.monotonic()
        found[name] = three[name].measure()
        tell(f"  {name}: {time.monotonic() - began:.0f} s")
    return found


def compared(rounds: Sequence[Round]) -> dict[str, dict[str, object]]:
    """Return for each figure the medians, and the ratios of the pairs."""
    return {
        figure: {
            "base": Spread.of([one["base"][figure] for one in rounds]).median,
            "this": Spread.of([one["this"][figure] for one in rounds]).median,
            "ratio": ratios(rounds, figure, "this").as_json(),
            "itself": ratios(rounds, figure, "again").as_json(),
        }
        for figure in rounds[0]["this"]
        if figure in rounds[0]["base"]
    }


def ratios(rounds: Sequence[Round], figure: str, side: str) -> Spread:
    return Spread.of([one[side][figure] / one["base"][figure] for one in rounds])


def table(base: str, figures: Mapping[str, Mapping[str, object]]) -> str:
    """Return the comparison as it is read in a terminal."""
    head = f"{'':30}{base:>13}{'this tree':>11}   {'ratio':22}{'a version against itself'}"
    lines = [head]
    for figure, found in figures.items():
        ratio, itself = found["ratio"], found["itself"]
        mark = " !" if _median(ratio) > _MOST else ""
        lines.append(
            f"{figure:30}{found['base']:>13.2f}{found['this']:>11.2f}"
            f"   {_shown(ratio) + mark:22}{_shown(itself)}"
        )
    return "\n".join(lines)


def _median(spread: object) -> float:
    assert isinstance(spread, dict)
    return float(spread["median"])


def _shown(spread: object) -> str:
    assert isinstance(spread, dict)
    return f"{spread['median']:.2f} [{spread['least']:.2f} … {spread['most']:.2f}]"


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments], cwd=_ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def _checked(*command: str, cwd: Path) -> None:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=_INSTALL_S, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(command[:2])} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()
